"""The response bodies of ``/v1/completions``."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from mlxnode.messages.data import FinishReason
from mlxnode.server.formats.usage import Usage


class TextLogprobs(Struct):
    """Parallel lists with an item for each token.

    The first token of an echoed prompt has no log-probability. ``text_offset`` counts
    characters from the start of the choice's text.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Struct):
    index: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: TextLogprobs | None = None


class TextCompletion(Struct):
    """The whole answer or, with ``usage`` unset or null, a chunk of a stream."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["text_completion"] = "text_completion"
