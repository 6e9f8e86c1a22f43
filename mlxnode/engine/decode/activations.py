"""What a forward pass allocates for a moment, measured on the loaded model.

Three short passes give a formula that is linear in the tokens of a pass, and in their attention
scores: a fused kernel keeps no scores, and a quantized KV cache or an uncommon head size has
no such kernel.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import mlx.core as mx
from mlx import nn

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode import projection
from mlxnode.engine.decode.prefill import MAX_CHUNK, SCORED_CHUNK
from mlxnode.engine.decode.prompt_lookup import MAX_DRAFTED_ROWS
from mlxnode.engine.kvcache.prompt_cache import evaluate, fill, new_prompt_cache
from mlxnode.engine.mirror import mirrored

_FEW, _MANY = 16, 64  # tokens of the passes
_CONTEXT = 1024  # cached tokens of the third pass
# The measured passes are short, and the allocator rounds.
_MARGIN = 1.1
# Arrays of the size of the logits, in float32, that sampling holds at once: scaled and sorted
# logits, their indices, their mass, masks.
_LOGITS_COPIES = 6


@dataclass(frozen=True)
class Activations:
    """Bytes of a pass: ``fixed``, for each token, each score, and each row of logits."""

    fixed: float = 0.0
    per_token: float = 0.0
    per_score: float = 0.0
    per_row: float = 0.0

    def of(self, tokens: int, context: int, rows: int = 1) -> int:
        """A pass on ``tokens`` tokens after ``context`` ones, with logits of ``rows``."""
        per_token = self.per_token + self.per_score * context
        return int(_MARGIN * (self.fixed + per_token * tokens + self.per_row * rows))

    def reserve(self, config: EngineConfig, available: int, context_length: int) -> int:
        """The bytes for all passes: for the longest chunk, or a quarter of ``available``.

        A decode step of the whole batch gets what it needs in any case.
        """
        rows = config.max_batch_size
        drafted = min(rows, MAX_DRAFTED_ROWS) * (1 + config.num_speculative_tokens)
        steps = max(rows, drafted)
        least = max(
            self.of(steps, context_length, rows=steps),
            self.of(SCORED_CHUNK, context_length, rows=SCORED_CHUNK),
        )
        return max(least, min(self.of(MAX_CHUNK, context_length), available // 4))

    def max_tokens(self, size: int, context: int) -> int:
        """The longest chunk of a prompt whose pass needs at most ``size`` bytes; at least 1."""
        per_token = self.per_token + self.per_score * context
        left = size / _MARGIN - self.fixed - self.per_row
        return max(int(left / per_token), 1) if per_token > 0 else 2**31


class PassMemory:
    """The bytes that are kept free for the passes of one model, and the chunks they allow."""

    def __init__(self, model: nn.Module, config: EngineConfig):
        self._model = model
        self._config = config
        self._measured: Activations | None = None
        self._size = 0

    def measure(self, context_length: int) -> Iterator[None]:
        """Measure the passes, once; yields between two of them."""
        self._measured = yield from measure_in_pieces(
            self._model, self._config.kv_cache_bits, context_length
        )

    def reserve(self, available: int, context_length: int) -> int:
        """The bytes, of ``available`` beside the weights."""
        if self._measured is None:
            for _ in self.measure(context_length):
                pass
        assert self._measured is not None
        self._size = self._measured.reserve(self._config, available, context_length)
        return self._size

    def max_chunk(self, context: int) -> int:
        """The longest chunk of a prompt, after ``context`` tokens, for which the bytes do."""
        return (
            2**31 if self._measured is None else self._measured.max_tokens(self._size, context)
        )


def measure_activations(
    model: nn.Module, kv_bits: int | None, context_length: int = _FEW + _CONTEXT
) -> Activations:
    """As ``measure_in_pieces``, at once."""
    pieces = measure_in_pieces(model, kv_bits, context_length)
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


def measure_in_pieces(
    model: nn.Module, kv_bits: int | None, context_length: int
) -> Generator[None, None, Activations]:
    """Run the model three times on a few tokens, which is one prompt of 96 tokens in all.

    Yields between two passes. No token has a position beyond ``context_length``: a table of
    learned positions ends there.
    """
    few_tokens = min(_FEW, max(context_length // 4, 1))
    many_tokens = min(_MANY, context_length)
    context = min(_CONTEXT, context_length - few_tokens)
    few = _peak(model, kv_bits, few_tokens, 0)
    yield
    many = _peak(model, kv_bits, many_tokens, 0)
    yield
    scored = _peak(model, kv_bits, few_tokens, context)
    per_token = max(many - few, 0) / max(many_tokens - few_tokens, 1)
    vocabulary = model(mx.zeros((1, 1), mx.int32)).shape[-1]  # a shape: nothing is computed
    return Activations(
        fixed=max(few - per_token * few_tokens, 0),
        per_token=per_token,
        per_score=max(scored - few, 0) / max(few_tokens * context, 1),
        per_row=_LOGITS_COPIES * 4 * vocabulary,
    )


@mirrored
def _peak(model: nn.Module, kv_bits: int | None, tokens: int, context: int) -> int:
    """The bytes that a pass on ``tokens`` tokens allocates beside its cache."""
    cache = new_prompt_cache(model, kv_bits)
    evaluate(cache, model(mx.zeros((1, 1), mx.int32), cache=cache))
    cache = [fill(layer, context, room=tokens) for layer in cache]
    evaluate(cache)
    mx.synchronize()  # no step of another model may allocate meanwhile
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    with projection.only_at([tokens - 1]):
        logits = model(mx.zeros((1, tokens), mx.int32), cache=cache)
    evaluate(cache, logits)
    return mx.get_peak_memory() - before
