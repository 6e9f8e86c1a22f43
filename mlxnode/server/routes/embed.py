"""Embeds inputs for an endpoint: reserve, embed, settle."""

from collections.abc import Sequence

import numpy as np
from sanic import Request

from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.http.accounting import account_of, charge
from mlxnode.server.http.context import context_of
from mlxnode.server.http.priority import sender_of


async def embed(
    request: Request,
    model_id: str,
    inputs: list[list[int]],
    dimensions: int | None = None,
    starts: Sequence[int] = (),
) -> np.ndarray:
    """The vectors of ``inputs``, which are token ids; a reranker's are their scores.

    ``starts``: as ``messages.Embed`` has them. Shape: [N, dimensions], float32

    Raises:
        ApiError: a limit is reached, or the engine refused the request, failed or went away.
    """
    context = context_of(request)
    account = account_of(request)
    account.model = model_id
    sender = sender_of(request)
    num_tokens = sum(map(len, inputs))
    account.count_used = lambda: TokenCounts(
        prompt=num_tokens, cached=0, completion=0, reasoning=0
    )
    async with context.rate_limiter.reserve(
        request.ctx.key_id, model_id, num_tokens, is_limited=not sender.background
    ) as reservation:
        request.ctx.headers |= reservation.headers
        account.ask_engine(model_id)
        embedded = await context.engine.embed(
            model_id, inputs, dimensions, starts, sender=sender
        )
        account.timing = embedded.timing
        reservation.tokens_used = num_tokens
        charge(request, model_id, num_tokens)
    return np.frombuffer(embedded.vectors, "<f4").reshape(-1, embedded.dimensions)


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Each row of ``vectors`` [N, dimensions] with the length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
