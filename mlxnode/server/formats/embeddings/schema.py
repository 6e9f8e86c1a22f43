"""The request body of ``/v1/embeddings``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import NonEmpty, Note, TextOrTokens


class EmbeddingBody(Body):
    """``POST /v1/embeddings``."""

    model: NonEmpty
    input: TextOrTokens[NonEmpty]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: Note = None

    exact: ClassVar = ("input",)
