"""Draws on their way, and what they bring once they are read."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import mlx.core as mx

from mlxnode.engine.decode.request import Request
from mlxnode.kernels.sample import Sampled
from mlxnode.messages import FinishReason, Token


class Output(NamedTuple):
    """The result of one step for one request. ``tokens`` is empty if only the end came."""

    request: Request
    tokens: list[Token]
    finish: FinishReason | None = None  # with the last one of a request
    error: str | None = None


@dataclass
class Launch:
    """The next token of each row; with ``drafts``, those at every place of the drafts, too.

    Each row has as many places in ``sampled`` as the longest draft needs, all of its own first.
    """

    rows: list[Request]
    sampled: Sampled
    drafts: Sequence[Sequence[int]] | None = None
    is_read: bool = False
    started_at: float = field(default_factory=time.perf_counter)

    @property
    def last_tokens(self) -> mx.array:
        """The last token of each row, [B], known to the host or not."""
        if self.drafts is None:
            return self.sampled.tokens
        return mx.array([request.tokens[-1] for request in self.rows], mx.int32)

    def read(self) -> list[Output]:
        """Wait for the draws and hand them to their requests, which may end with that."""
        self.is_read = True
        arrays = [None if array is None else array.tolist() for array in self.sampled]
        width = len(arrays[0]) // len(self.rows)
        outputs = []
        for i, request in enumerate(self.rows):
            if not request.is_done:
                draft = [] if self.drafts is None else self.drafts[i]
                places = slice(i * width, i * width + len(draft) + 1)
                draws = Sampled(*(array and array[places] for array in arrays))
                outputs.append(_accept(request, draws, draft))
        return outputs


def _accept(request: Request, draws: Sampled, draft: Sequence[int]) -> Output:
    """Take the draws that follow right guesses; lists instead of arrays."""
    output = Output(request, [])
    for i, (token, logprob) in enumerate(zip(draws.tokens, draws.logprobs, strict=True)):
        if math.isnan(logprob):
            reason = request.grammar and request.grammar.error
            request.has_failed = not reason
            return failure(request, reason or "the model's logits are not finite")
        is_text = request.accept(token)
        if request.grammar is not None and request.grammar.error is not None and is_text:
            return failure(request, request.grammar.error)
        if is_text:
            top = None
            if count := request.sampling.top_logprobs:
                tops = zip(draws.top_ids[i][:count], draws.top_logprobs[i][:count], strict=True)
                top = dict(tops)
            output.tokens.append(Token(token, logprob, top))
        if request.is_done or draft[i : i + 1] != [token]:
            break
    # A later step may have ended the request by the time this is told.
    return output._replace(finish=request.finish_reason)


def failure(request: Request, reason: str) -> Output:
    """The end of a row that cannot go on; the others do."""
    request.is_aborted = True
    return Output(request, [], error=reason)
