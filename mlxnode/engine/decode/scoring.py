"""Log-probabilities of the tokens of a prompt."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np

from mlxnode.kernels.columns import column
from mlxnode.kernels.sample import Sampled, SamplingColumns
from mlxnode.messages import Token


def score(
    scores: list[Token],
    logits: mx.array,
    following: list[int],
    num_top: int,
    sample: Callable[..., Sampled],
) -> None:
    """Append the tokens that follow each position of a prompt, with their log-probabilities.

    Shapes:
        logits: [L, V], following: L token ids
    """
    L, _ = logits.shape
    greedy = SamplingColumns.of([0.0] * L, [0] * L, [1.0] * L, [0.0] * L, [0] * L)
    best = sample(logits, greedy, column([0] * L, np.uint32, 0), None, None, num_top)
    # The log-probability of the best token and the difference of the logits give the others.
    ids = mx.stack([mx.array(following, mx.int32), best.tokens], axis=-1)  # [L, 2]
    of_next, of_best = mx.take_along_axis(logits, ids, axis=-1).astype(mx.float32).T
    logprobs = (of_next - of_best + best.logprobs).tolist()
    tops: list[dict[int, float] | None] = [None] * L
    if best.top_ids is not None and best.top_logprobs is not None:
        pairs = zip(best.top_ids.tolist(), best.top_logprobs.tolist(), strict=True)
        tops = [dict(zip(*pair, strict=True)) for pair in pairs]
    scores += map(Token, following, logprobs, tops)
