"""Log-probabilities of the tokens of a prompt."""

import mlx.core as mx
import numpy as np

from mlxnode.engine.decode.sampling import to_list, to_tokens
from mlxnode.kernels.columns import column
from mlxnode.kernels.sample import SampleFunction, SamplingColumns
from mlxnode.messages.data import Token


def score(
    scores: list[Token],
    logits: mx.array,
    following: list[int],
    num_top: int,
    sample: SampleFunction,
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
    logprobs = to_list(of_next - of_best + best.logprobs)
    tops = [token.top_logprobs for token in to_tokens(best)]
    scores += map(Token, following, logprobs, tops)
