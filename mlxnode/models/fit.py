"""Whether a model fits into memory, and what would fit: the arithmetic and the text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

SMALL_CONTEXT = 2048  # tokens; a model that cannot serve so many is of no use
_POSITION_STEP = 128  # positions by which the KV cache grows, as in engine/kvcache/slots.py
_OWN_STEP = 256  # positions by which the cache of a prompt grows, in mlx-lm


@dataclass(frozen=True)
class KVBytes:
    """Bytes of the KV cache of one row: ``growing`` has (bytes for each token, max. tokens)."""

    fixed: int = 0
    growing: tuple[tuple[int, int], ...] = ()

    def of(self, tokens: int) -> int:
        """The bytes of a row of ``tokens`` tokens."""
        return self.fixed + sum(self._layers(tokens))

    def largest(self, tokens: int) -> int:
        """The bytes of the largest layer that grows, of a row of ``tokens`` tokens."""
        return max(self._layers(tokens), default=0)

    def _layers(self, tokens: int) -> list[int]:
        capacity = -(-tokens // _POSITION_STEP) * _POSITION_STEP
        return [size * min(capacity, most) for size, most in self.growing]


def num_slots(rows: int) -> int:
    """The slots that a batch of ``rows`` rows allocates, as in engine/kvcache/slots.py."""
    return rows if rows <= 2 else -(-rows // 4) * 4


@dataclass(frozen=True)
class Activations:
    """The bytes beyond weights and KV caches at a context of ``tokens``.

    ``prefill``: for the last chunk of a prompt; ``decode``: for each row of a step.
    """

    tokens: int
    prefill: int
    decode: int


@dataclass(frozen=True)
class MemoryNeeds:
    """What a model needs. ``activations`` are at two contexts, the shorter first.

    ``kv`` is as configured. ``kv_if_quantized`` has the same for other ``kv_cache_bits``; it
    is as large if the model allows no layer to be quantized. ``load`` is beyond the weights,
    while they are loaded.
    """

    weights: int
    kv: KVBytes
    activations: tuple[Activations, Activations]
    kv_if_quantized: tuple[tuple[int, KVBytes], ...] = ()
    load: int = 0
    note: str = ""  # what the user should know about the KV cache

    def peak(self, rows: int, tokens: int) -> int:
        """The most bytes in use while ``rows`` rows of ``tokens`` tokens are served.

        A prompt has a cache of its own, beside the slots of the other rows, until the first
        step after it joined them. Slots that grow are copied layer by layer before a step.
        """
        kv, slots = self.kv, num_slots(rows)
        row = kv.of(tokens)
        own = row if rows > 1 else 0  # the first row's becomes the batch's, layer by layer
        prefill = (1 + num_slots(rows - 1)) * row + self._at(tokens, lambda at: at.prefill)
        decode = slots * row + own + rows * self._at(tokens, lambda at: at.decode)
        growth = slots * (row + kv.largest(tokens)) + own
        return self.weights + max(prefill, decode, growth, self.load)

    def planned(self, rows: int, tokens: int, free: int, kv: KVBytes | None = None) -> int:
        """The bytes that must be planned for ``rows`` rows of ``tokens``, as admission does.

        More than the peak: the batch, the cache of a prompt beside it, and the copy of a layer
        have their places at the same time. Prompt chunks are shorter where the memory is
        scarce, so that a pass needs a quarter of what the weights leave of ``free``.
        """
        kv = kv or self.kv
        claim = num_slots(rows) * (kv.of(tokens) + kv.largest(tokens)) + kv.of(
            tokens + _OWN_STEP
        )
        prefill = min(self._at(tokens, lambda at: at.prefill), max(free - self.weights, 0) // 4)
        decode = rows * self._at(tokens, lambda at: at.decode)
        return self.weights + max(claim + max(prefill, decode), self.load)

    def _at(self, tokens: int, part: Callable[[Activations], int]) -> int:
        """Between the two contexts, activations grow with the context."""
        short, long = self.activations
        if tokens >= long.tokens or short.tokens == long.tokens:
            return part(long)
        slope = (part(long) - part(short)) / (long.tokens - short.tokens)
        return int(part(short) + max(tokens - short.tokens, 0) * max(slope, 0.0))


@dataclass(frozen=True)
class Verdict:
    """Whether a model fits into ``free`` bytes.

    ``rows``: the rows of ``context_length`` tokens that fit; ``max_context``: the longest
    request that fits alone. 0 means none.
    """

    needs: MemoryNeeds
    free: int
    context_length: int
    max_batch_size: int
    is_configured: bool  # the context length; otherwise it is the model's own
    rows: int
    max_context: int

    @property
    def fits(self) -> bool:
        """True if the model can be served.

        A context that was configured must fit. The model's own may be too long: then shorter
        requests are served.
        """
        wanted = self.context_length if self.is_configured else SMALL_CONTEXT
        return self.max_context >= min(wanted, self.context_length)

    @property
    def short(self) -> str:
        """A few words, for a table."""
        if not self.fits:
            return "no"
        if self.rows >= self.max_batch_size:
            return "yes"
        if self.rows > 0:
            return f"{self.rows} of {self.max_batch_size} rows"
        return f"{self.max_context} tokens"

    @property
    def text(self) -> str:
        """The verdict with its numbers, in one line."""
        return f"{self._text}; {self.needs.note}" if self.needs.note else self._text

    @property
    def _text(self) -> str:
        context = self.context_length
        full = self._needed(self.max_batch_size, context)
        if not self.fits:
            wanted = context if self.is_configured else min(SMALL_CONTEXT, context)
            return (
                f"does not fit: one request of {wanted} tokens needs "
                f"{_gb(self._needed(1, wanted))} ({self._parts(wanted)}), "
                f"{_gb(self.free)} are free; {self._advice()}"
            )
        if not self.needs.kv.of(1):
            return f"fits: needs {_gb(full)} of {_gb(self.free)} ({self._parts(context)})"
        if self.rows >= self.max_batch_size:
            return (
                f"fits: {_rows(self.max_batch_size)} of {context} tokens need {_gb(full)} of "
                f"{_gb(self.free)} ({self._parts(context)})"
            )
        if self.rows > 0:
            return (
                f"fits with {_rows(self.rows)} of {context} tokens: {self.max_batch_size} rows "
                f"would need {_gb(full)} of {_gb(self.free)} ({self._parts(context)})"
            )
        return (
            f"fits up to {self.max_context} tokens of its {context}: a longer request needs "
            f"more than {_gb(self.free)} ({self._parts(self.max_context)})"
        )

    def _parts(self, tokens: int) -> str:
        needs = self.needs
        row = needs.kv.of(tokens)
        rest = self._needed(1, tokens) - needs.weights - row
        if not row:
            return f"weights {_gb(needs.weights)}, computation {_gb(rest)}"
        return (
            f"weights {_gb(needs.weights)}, KV cache {_gb(row)} a row, "
            f"computation and copies {_gb(rest)}"
        )

    def _needed(self, rows: int, tokens: int, kv: KVBytes | None = None) -> int:
        return self.needs.planned(rows, tokens, self.free, kv)

    def _advice(self) -> str:
        """What would fit, as far as each change helps."""
        advice = []
        if self.max_context:
            advice.append(f"context_length = {self.max_context}")
        wanted = self.context_length if self.is_configured else SMALL_CONTEXT
        for bits, kv in self.needs.kv_if_quantized:
            if self._needed(1, wanted, kv) <= self.free:
                advice.append(f"kv_cache_bits = {bits}")
        if not advice:
            least = _gb(self._needed(1, min(_POSITION_STEP, self.context_length)))
            return f"no setting helps: even {_POSITION_STEP} tokens need {least}"
        return f"would fit: {' or '.join(advice)}"


class Weighed(NamedTuple):
    """A verdict as the command line prints it.

    A few words for a table, a line, and whether the model will be served.
    """

    short: str
    text: str
    fits: bool


def judge(
    needs: MemoryNeeds,
    free: int,
    *,
    context_length: int,
    max_batch_size: int,
    is_configured: bool,
) -> Verdict:
    """The verdict on a model that may use ``free`` bytes."""
    rows = _most(max_batch_size, lambda rows: needs.planned(rows, context_length, free) <= free)
    longest = _most(context_length, lambda tokens: needs.planned(1, tokens, free) <= free)
    if longest < context_length:
        longest -= longest % _POSITION_STEP  # a round number, for the user
    return Verdict(needs, free, context_length, max_batch_size, is_configured, rows, longest)


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 0 to ``limit`` that fits; smaller numbers fit as well."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
