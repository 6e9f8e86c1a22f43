"""Prefill: prompts are processed in chunks, short prompts together, after a cached prefix."""

from collections.abc import Callable

import mlx.core as mx
from mlx import nn

from mlxnode.engine.decode import projection
from mlxnode.engine.decode.passes import run_chunk, run_prompts
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.scoring import score
from mlxnode.engine.kvcache.batch import new_batch
from mlxnode.engine.kvcache.padding import can_pad
from mlxnode.engine.pacing import MAX_REMAINDER, Throughput
from mlxnode.kernels.backend import Kernels
from mlxnode.messages.data import Token

SCORED_CHUNK = 128  # prompt tokens, when the logits of all of them are needed at once
# A pass on fewer tokens than this, padding included, is not faster: prompts can share it.
MAX_TOGETHER = 256
MAX_PADDING = 1.25  # tokens with padding, as a multiple of the tokens without
MAX_CHUNK = int(MAX_REMAINDER * Throughput.MAX_CHUNK)  # tokens


class Prefiller:
    """Processes the prompts of one model."""

    def __init__(
        self,
        model: nn.Module,
        kernels: Kernels,
        has_room_for: Callable[[int, int], bool] = lambda rows, length: True,
    ):
        """``has_room_for``: a batch of that size fits the memory for a moment."""
        self._model = model
        self._has_room_for = has_room_for
        # The longest chunk that the memory for activations allows after so many tokens.
        self.max_chunk: Callable[[int], int] = lambda context: MAX_CHUNK
        self._has_narrow_head = projection.prepare(model)
        self._can_pad = can_pad(model)
        self._sample = kernels.sample

    def fit_together(self, requests: list[Request], budget: int) -> bool:
        """True if one pass on the remaining tokens of all prompts costs less than several."""
        lengths = [request.num_to_prefill for request in requests]
        padded = len(lengths) * max(lengths)
        return (
            padded <= min(budget, MAX_TOGETHER, MAX_PADDING * sum(lengths))
            and min(lengths) > 0
            and self._has_narrow_head
            and self._can_pad
            and all(r.scores is None and not r.stops for r in requests)
            and self._has_room_for(len(requests), max(len(r.context) for r in requests))
        )

    def process(self, requests: list[Request], budget: int) -> int:
        """Process a chunk of one prompt, or the remaining tokens of several that fit together.

        Returns the number of tokens that the model ran on: ``budget``, fewer if there are no
        more, or up to ``MAX_REMAINDER`` times as many if that completes the prompt.
        """
        if len(requests) > 1:
            return self._process_together(requests)
        return self._process_chunk(requests[0], budget)

    def _process_chunk(self, request: Request, budget: int) -> int:
        length = self._chunk_length(request, budget)
        if length == 0:
            return 0  # the whole prompt was cached
        start, cache = request.num_prefilled, request.own_cache
        position = None if request.scores is not None else length - 1
        is_last = length == request.num_to_prefill
        ids = request.context[start : start + length]
        logits = run_chunk(self._model, cache, ids, position, is_last=is_last)
        if request.scores is not None:
            self._score(request, request.scores, logits, start)
        request.logits = logits[-1:] if is_last else None
        request.num_prefilled += length
        return length

    def _score(
        self, request: Request, scores: list[Token], logits: mx.array, start: int
    ) -> None:
        """Append the scores of the tokens that follow each position of a chunk."""
        if start == 0:
            scores.append(Token(request.prompt[0], None))
        following = request.prompt[start + 1 : start + len(logits) + 1]
        if following:
            num_top = request.sampling.top_logprobs or 0
            score(scores, logits[: len(following)], following, num_top, self._sample)

    def _chunk_length(self, request: Request, budget: int) -> int:
        length, longest = request.num_to_prefill, self.max_chunk(request.num_prefilled)
        if length > min(MAX_REMAINDER * budget, longest):
            length = min(budget, longest)
        if request.stops:
            length = min(length, request.stops[0].length - request.num_prefilled)
        if request.scores is not None:
            return min(length, SCORED_CHUNK)
        if length == request.num_to_prefill > 1 and not self._has_narrow_head:
            return length - 1  # the last token alone: all tokens of a chunk would be projected
        return length

    def _process_together(self, requests: list[Request]) -> int:
        """Run the model on the remaining tokens of each prompt, padded on the right."""
        remaining = [request.context[request.num_prefilled :] for request in requests]
        longest = max(map(len, remaining))
        batch = new_batch(
            [request.own_cache for request in requests],
            [request.num_prefilled for request in requests],
            longest,
        )
        logits = run_prompts(batch, self._model, remaining)
        for i, request in enumerate(requests):
            request.cache = batch.extract(i, batch.lengths[i])
            request.logits = logits[i : i + 1]
            request.num_prefilled = len(request.context)
        return longest * len(remaining)
