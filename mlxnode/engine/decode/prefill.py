"""Prompts into the KV cache: in pieces, short ones together, from what is known on."""

import contextlib

import mlx.core as mx
from mlx import nn

from mlxnode.engine.decode import projection
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.scoring import score
from mlxnode.engine.kvcache.batch import BatchCache, can_be_cut, make_row
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.kernels.backend import Kernels
from mlxnode.messages import Token

SCORED_CHUNK = 128  # prompt tokens at a time whose logits are all needed at once
# A pass over fewer tokens than these, padding included, is no faster: others may be in it.
MAX_TOGETHER = 256
MAX_PADDING = 1.25  # times the tokens that there are
# A piece may be so many times longer if nothing is left then: a rest would cost a pass more,
# and a decode step of waiting for it.
MAX_REST = 1.5


class Prefiller:
    """Processes the prompts of one model."""

    def __init__(
        self, model: nn.Module, kv_bits: int | None, prefixes: PrefixCache, kernels: Kernels
    ):
        self._model = model
        self._has_narrow_head = projection.prepare(model)
        self._kv_bits = kv_bits
        self._prefixes = prefixes
        self._sample = kernels.sample

    def begin(self, request: Request) -> None:
        """Start from what is known of the prompt's beginning, which may be all of it."""
        # Scores need the logits of every position.
        known = None if request.scores is not None else self._prefixes.find(request.prompt)
        if known is None:
            request.cache = make_row(self._model, self._kv_bits)
        else:
            request.cache, request.num_cached, request.logits = known
            request.num_prefilled = request.num_cached

    def fit_together(self, requests: list[Request], most: int) -> bool:
        """Whether a pass over the rest of all these prompts costs less than one for each."""
        lengths = [request.num_to_prefill for request in requests]
        padded = len(lengths) * max(lengths)
        return (
            padded <= min(most, MAX_TOGETHER, MAX_PADDING * sum(lengths))
            and min(lengths) > 0
            and self._has_narrow_head
            and all(r.scores is None and can_be_cut(r.cache) for r in requests)
        )

    def process(self, requests: list[Request], most: int) -> int:
        """Process a piece of one prompt, or the rest of several that fit together.

        Returns the number of tokens that the model ran on: ``most``, fewer if there are no
        more, or up to ``MAX_REST`` times as many if that is all.
        """
        if len(requests) > 1:
            return self._process_together(requests)
        return self._process_piece(requests[0], most)

    def _process_piece(self, request: Request, most: int) -> int:
        length = self._piece_length(request, most)
        if length == 0:
            return 0  # all of it was known
        start = request.num_prefilled
        piece = mx.array([request.prompt[start : start + length]], mx.int32)
        is_scored, is_last = request.scores is not None, length == request.num_to_prefill
        if is_scored and start == 0:
            request.scores.append(Token(request.prompt[0], None))
        with contextlib.nullcontext() if is_scored else projection.only_at([length - 1]):
            logits = self._model(piece, cache=request.cache)[0]  # [length or 1, V]
        if is_scored and (following := request.prompt[start + 1 : start + length + 1]):
            num_top = request.sampling.top_logprobs or 0
            score(request.scores, logits[: len(following)], following, num_top, self._sample)
        request.logits = logits[-1:] if is_last else None  # others are not even evaluated
        mx.eval([layer.state for layer in request.cache], request.logits)
        request.num_prefilled += length
        return length

    def _piece_length(self, request: Request, most: int) -> int:
        length = request.num_to_prefill
        if length > MAX_REST * most:
            length = most
        if request.scores is not None:
            return min(length, SCORED_CHUNK)
        if length == request.num_to_prefill > 1 and not self._has_narrow_head:
            return length - 1  # the last one alone: all of a piece would be projected
        return length

    def _process_together(self, requests: list[Request]) -> int:
        """Run the model on the rest of each prompt, filled up on the right."""
        batch = BatchCache()
        batch.join([request.cache for request in requests])
        rests = [request.prompt[request.num_prefilled :] for request in requests]
        longest = max(map(len, rests))
        padded = mx.array([rest + [0] * (longest - len(rest)) for rest in rests], mx.int32)
        with projection.only_at([len(rest) - 1 for rest in rests]):
            logits = self._model(padded, cache=batch.layers)[:, 0]  # [B, V]
        mx.eval(logits)
        batch.advance([len(rest) for rest in rests])
        for i, request in enumerate(requests):
            request.cache = batch.extract(i, batch.lengths[i])
            request.logits = logits[i : i + 1]
            request.num_prefilled = len(request.prompt)
        return padded.size
