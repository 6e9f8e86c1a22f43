"""The request body of ``/v1/embeddings``."""

from typing import Annotated, Literal

from pydantic import Field

from mlxnode.server.formats.fields import (
    Body,
    EmbeddingInput,
    NonEmpty,
)


class EmbeddingBody(Body):
    """``POST /v1/embeddings``."""

    model: NonEmpty
    input: EmbeddingInput
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
