"""``POST /v1/rerank`` and ``POST /v1/score``."""

import time
import uuid

from msgspec import UNSET
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.rerank.answers import (
    ApiVersion,
    CountedTokens,
    RankedDocument,
    Reranking,
    RerankMeta,
    RerankResult,
    Score,
    ScoreList,
    ScoringUsage,
)
from mlxnode.server.formats.rerank.schema import RerankBody, ScoreBody
from mlxnode.server.http.body import json_response, read_body
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.routes.scoring import Comparison, score

blueprint = Blueprint("rerank")

_SCORERS = ("rerank", "embedding")


# Cohere's newer clients ask for /v2, with the same body.
@blueprint.post("/v2/rerank", name="rerank_v2", ctx_is_alias=True)
@blueprint.post("/v1/rerank", ctx_models=_SCORERS, ctx_body=RerankBody, ctx_answer=Reranking)
async def rerank(request: Request) -> HTTPResponse:
    """Order documents by how well they answer a query."""
    body = await read_body(request, RerankBody)
    model = await registry_of(request).find_scorer(body.model)
    context_of(request).engine.check_connected()
    texts = body.texts
    comparison = Comparison(
        queries=[body.query] * len(texts),
        documents=texts,
        params=("query", "documents"),
        singles=("query",),
        instruction=body.instruction,
        max_tokens=body.truncate_prompt_tokens,
        max_document_tokens=body.max_tokens_per_doc,
        may_cut=body.truncate is not False,
    )
    scored = await score(request, model, comparison)
    order = sorted(range(len(texts)), key=lambda index: (-scored.scores[index], index))
    shows_texts = body.return_documents is not False
    results = [
        RerankResult(
            index,
            scored.scores[index],
            RankedDocument(texts[index]) if shows_texts else UNSET,
        )
        for index in order[: body.top_n]
    ]
    return json_response(
        Reranking(
            id=f"rerank-{uuid.uuid4().hex}",
            model=model.served.id,
            results=results,
            usage=_usage(scored.num_tokens),
            meta=RerankMeta(CountedTokens(scored.num_tokens), ApiVersion()),
        )
    )


@blueprint.post("/v1/score", ctx_models=_SCORERS, ctx_body=ScoreBody, ctx_answer=ScoreList)
async def score_pairs(request: Request) -> HTTPResponse:
    """Score how well texts fit each other: one against each of several, or pair by pair."""
    body = await read_body(request, ScoreBody)
    model = await registry_of(request).find_scorer(body.model)
    context_of(request).engine.check_connected()
    first, second = body.pairs
    if len(first) != len(second):
        raise InvalidRequest(
            f"Invalid 'text_2': expected as many texts as in text_1 ({len(first)}), got "
            f"{len(second)}. A single text_1 is scored against each text_2.",
            param="text_2",
            code="invalid_parameter_combination",
        )
    comparison = Comparison(
        queries=first,
        documents=second,
        params=("text_1", "text_2"),
        singles=body.singles,
        instruction=body.instruction,
        max_tokens=body.truncate_prompt_tokens,
        may_cut=body.truncate is not False,
    )
    scored = await score(request, model, comparison)
    return json_response(
        ScoreList(
            id=f"score-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=model.served.id,
            data=[Score(index, value) for index, value in enumerate(scored.scores)],
            usage=_usage(scored.num_tokens),
        )
    )


def _usage(num_tokens: int) -> ScoringUsage:
    return ScoringUsage(prompt_tokens=num_tokens, total_tokens=num_tokens)
