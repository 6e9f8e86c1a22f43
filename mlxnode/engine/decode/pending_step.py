"""Sampled tokens that are not read yet, and the outputs made from them."""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.sampling import to_tokens
from mlxnode.engine.work import Output
from mlxnode.kernels.sample import Sampled
from mlxnode.messages.data import Failed, Token, Update


@dataclass
class PendingStep:
    """The next token of each row. With ``drafts``, also the tokens after each draft token.

    ``sampled`` has the same number of positions for each row: one more than the longest draft.
    The positions of a row follow each other.
    """

    rows: list[Request]
    sampled: Sampled
    drafts: Sequence[Sequence[int]] | None = None
    started_at: float = field(default_factory=time.perf_counter)

    def read(self) -> list[Output]:
        """Wait for the tokens and append them to their requests, which may end with them."""
        tokens = to_tokens(self.sampled)
        width = len(tokens) // len(self.rows)
        outputs = []
        for i, request in enumerate(self.rows):
            if not request.has_ended:
                draft = [] if self.drafts is None else self.drafts[i]
                outputs.append(_accept(request, tokens[i * width :][: len(draft) + 1], draft))
        return outputs


def _accept(request: Request, tokens: Sequence[Token], draft: Sequence[int]) -> Output:
    """Append the first token, and each token that follows a correct draft token."""
    accepted = []
    timing = request.take_timing()
    for i, token in enumerate(tokens):
        grammar = request.grammar
        if token.logprob is not None and math.isnan(token.logprob):
            reason = grammar and grammar.error
            request.has_bad_logits = not reason
            return failure(request, reason or "the model's logits are not finite")
        is_text = request.accept(token.id)
        if grammar is not None and grammar.error is not None:
            return failure(request, grammar.error)
        if not is_text and grammar is not None and not grammar.may_end:
            return failure(request, "the answer ended before its form was complete")
        if is_text:
            accepted.append(_as_requested(token, request.sampling.top_logprobs))
        if request.has_ended or request.forced_token is not None:
            break  # the tokens after this one were sampled without the end of the reasoning
        if draft[i : i + 1] != [token.id]:
            break
    scores, request.scores = request.scores, None  # emitted once
    update = Update(
        uid=request.key.uid,
        tokens=accepted,
        # Read now: a later step of the same batch may end the request before it is emitted.
        finish=request.finish_reason,
        prompt=scores,
        num_cached=request.num_cached,
        timing=timing,
    )
    return Output(request.key.pipe_id, update)


def _as_requested(token: Token, num_top: int | None) -> Token:
    """The token with as many most likely tokens as its request asked for."""
    if token.top_logprobs is None:
        return token
    top = dict(itertools.islice(token.top_logprobs.items(), num_top)) if num_top else None
    return Token(token.id, token.logprob, top)


def failure(request: Request, reason: str) -> Output:
    """End a row that cannot continue. The other rows of the batch do continue."""
    request.is_aborted = True
    return Output(request.key.pipe_id, Failed(request.key.uid, "internal", reason))
