"""The request body of ``/v1/embeddings``."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import INT32_MAX, NonEmpty, Note, Priority, TextOrTokens

_SIDES = {"start": "start", "left": "start", "end": "end", "right": "end", "none": "none"}
_WORDS = [form for word in _SIDES for form in (word, word.upper(), word.capitalize())]


def _side(value: Any) -> Any:
    return _SIDES[value.lower()] if isinstance(value, str) and value in _WORDS else value


# Which end of a long input is cut off; "left" and "right" are Hugging Face's words for it.
Side = Annotated[
    Literal["start", "end", "none"], BeforeValidator(_side), WithJsonSchema({"enum": _WORDS})
]


class EmbeddingBody(Body):
    """``POST /v1/embeddings``, with the fields of vLLM, Hugging Face, Cohere and Ollama."""

    model: NonEmpty
    input: TextOrTokens[NonEmpty]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=INT32_MAX)] | None = None
    truncate: bool | Side | None = None
    truncation_direction: Side | None = None
    normalize: bool | None = None
    user: Note = None
    priority: Priority = None

    exact: ClassVar = ("input",)
    spellings: ClassVar = {
        "truncation": "truncate",  # Voyage
        "truncation_side": "truncation_direction",  # vLLM
        "normalized": "normalize",  # Jina
        "output_dimension": "dimensions",  # Voyage, Cohere
    }

    @property
    def truncates(self) -> bool | None:
        """Whether an input that is too long is cut; None if the request says nothing."""
        if self.truncate_prompt_tokens is not None:
            return True
        if isinstance(self.truncate, str):
            return self.truncate != "none"
        return self.truncate

    @property
    def max_tokens(self) -> int | None:
        """The tokens that the request leaves of an input; None: as many as the model takes."""
        limit = self.truncate_prompt_tokens
        return None if limit is None or limit < 0 else limit

    @property
    def cuts_start(self) -> bool:
        """True if the start of a long input is cut off, and not its end."""
        sides = (self.truncate, self.truncation_direction)
        return "start" in sides
