"""The request bodies of ``/v1/rerank`` (Jina's, Cohere's) and ``/v1/score`` (vLLM's)."""

from typing import Annotated, ClassVar

from pydantic import Field

from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import (
    INT32_MAX,
    MAX_INPUTS,
    NonEmpty,
    Note,
    Priority,
    TokenLimit,
)
from mlxnode.server.formats.rules import Rule, required_in

_Tokens = Annotated[int, Field(ge=1, le=INT32_MAX)]
_Several = Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)


class ScoringBody(Body):
    """Base of the bodies whose answers are scores.

    Texts that are too long are cut, as rerankers usually are asked. ``truncate`` false
    refuses them; ``truncate_prompt_tokens`` (-1: the model's maximum) cuts them shorter.
    """

    model: NonEmpty
    instruction: NonEmpty | None = None  # what the query asks for
    truncate: bool | None = None
    truncate_prompt_tokens: TokenLimit = None
    user: Note = None
    priority: Priority = None

    exact: ClassVar = ("query", "documents", "text_1", "text_2")
    spellings: ClassVar = {"instruct": "instruction", "truncation": "truncate"}


class Document(Body):
    text: NonEmpty


class RerankBody(ScoringBody):
    """``POST /v1/rerank``."""

    query: NonEmpty
    documents: Annotated[list[NonEmpty | Document], _Several]
    top_n: _Tokens | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: _Tokens | None = None

    spellings: ClassVar = {**ScoringBody.spellings, "top_k": "top_n"}
    # Cohere's: a longer document is cut, where Cohere once scored its parts.
    harmless: ClassVar = {"max_chunks_per_doc": (1,)}
    neutral: ClassVar = {"rank_fields": (["text"],)}

    @property
    def texts(self) -> list[str]:
        """The texts of the documents."""
        return [
            document if isinstance(document, str) else document.text
            for document in self.documents
        ]


_Texts = NonEmpty | Annotated[list[NonEmpty], _Several]
_SPELLINGS = {
    **ScoringBody.spellings,
    **dict.fromkeys(("query", "queries", "data_1"), "text_1"),
    **dict.fromkeys(("document", "documents", "items", "data_2"), "text_2"),
}


class ScoreBody(ScoringBody):
    """``POST /v1/score``: one text against each of others, or as many against as many."""

    text_1: _Texts | None = None
    text_2: _Texts | None = None

    spellings: ClassVar = _SPELLINGS
    rules: ClassVar[tuple[Rule, ...]] = (
        required_in("text_1", _SPELLINGS),
        required_in("text_2", _SPELLINGS),
    )

    @property
    def pairs(self) -> tuple[list[str], list[str]]:
        """The first and the second texts; a single first text is one for each of the second."""
        first, second = map(_as_list, (self.text_1, self.text_2))
        return (first * len(second) if len(first) == 1 else first), second

    @property
    def singles(self) -> tuple[str, ...]:
        """The fields that hold one text, not in a list."""
        return tuple(n for n in ("text_1", "text_2") if isinstance(getattr(self, n), str))


def _as_list(texts: str | list[str] | None) -> list[str]:
    return [texts] if isinstance(texts, str) else texts or []
