"""The response bodies of ``/v1/rerank`` and ``/v1/score``."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class ScoringUsage(Struct):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class RankedDocument(Struct):
    text: str


class RerankResult(Struct):
    """``index`` is the document's place in the request."""

    index: int
    relevance_score: float
    document: RankedDocument | UnsetType = UNSET


class ApiVersion(Struct):
    version: str = "2"


class CountedTokens(Struct):
    input_tokens: int
    output_tokens: int = 0


class RerankMeta(Struct):
    """Cohere's word about the usage."""

    tokens: CountedTokens
    api_version: ApiVersion


class Reranking(Struct):
    """The best documents first; equal scores in the order of the request."""

    id: str
    model: str
    results: list[RerankResult]
    usage: ScoringUsage
    meta: RerankMeta
    object: Literal["list"] = "list"


class Score(Struct):
    index: int
    score: float
    object: Literal["score"] = "score"


class ScoreList(Struct):
    id: str
    created: int
    model: str
    data: list[Score]
    usage: ScoringUsage
    object: Literal["list"] = "list"
