"""Does MLX copy the KV cache when a decode step writes to it? A measurement for any device.

A small decoder with random weights decodes, and each way to write new keys and values is
combined with each way to launch a step. docs/kv-updates.md says what to expect, and why.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from mlxnode.engine.kvcache.slots import Slots, num_positions

LENGTHS = 500, 16_000  # tokens of a row
LAUNCHES = "waited", "pipelined", "halves"
_HEADS, _KV_HEADS, _SIZE = 8, 2, 64
_WARM_UP = 3  # steps

Write = Callable[[mx.array, mx.array, Slots], mx.array]


@dataclass(frozen=True)
class Measurement:
    """A decode step of ``rows`` rows of ``length`` tokens, with one way to write and to launch.

    ``copied`` is the peak of MLX's memory above the active memory, as a share of the keys and
    values of all layers: nearly 0 if they are written in place. Each copy in flight adds 1.
    """

    write: str
    launch: str
    rows: int
    length: int
    step_ms: float
    copied: float


def scatter(cache: mx.array, new: mx.array, slots: Slots) -> mx.array:
    """Write the rows with one scatter: how ``SlotCache`` writes rows of unequal lengths."""
    cache[slots.targets(_KV_HEADS, 1)] = new
    return cache


def slice_update(cache: mx.array, new: mx.array, slots: Slots) -> mx.array:
    """Write all rows at one position: as mlx-lm, and ``SlotCache`` for rows of one length."""
    cache[:, :, slots.longest : slots.longest + 1] = new
    return cache


def slice_per_row(cache: mx.array, new: mx.array, slots: Slots) -> mx.array:
    """Write each row with a slice update."""
    for i, length in enumerate(slots.lengths):
        cache[i : i + 1, :, length : length + 1] = new[i : i + 1]
    return cache


def dynamic_slice(cache: mx.array, new: mx.array, slots: Slots) -> mx.array:
    """Write all rows at one position, which is an array."""
    return mx.slice_update(cache, new, mx.array([slots.longest]), axes=[2])


def along_axis(cache: mx.array, new: mx.array, slots: Slots) -> mx.array:
    """Write the rows with ``put_along_axis``."""
    positions = mx.broadcast_to(slots.offsets[:, None, None, None], new.shape)
    return mx.put_along_axis(cache, positions, new, axis=2)


def concatenate(cache: mx.array, new: mx.array, slots: Slots) -> mx.array:
    """Join the past with the new tokens: always a copy. Blocks would be joined like this."""
    length = slots.longest
    return mx.concatenate([cache[:, :, :length], new, cache[:, :, length + 1 :]], axis=2)


WRITES: tuple[Write, ...] = (
    scatter,
    slice_update,
    slice_per_row,
    dynamic_slice,
    along_axis,
    concatenate,
)


class Decoder:
    """A few layers of attention with random weights, and the cache of a batch of rows."""

    def __init__(self, write: Write, lengths: Sequence[int], layers: int):
        self._write = write
        self._slots = Slots()
        self._slots.lengths = list(lengths)
        dtype = mx.float32 if mx.default_device() == mx.cpu else mx.float16
        shape = len(lengths), _KV_HEADS, num_positions(max(lengths) + 100), _SIZE
        hidden, num_heads = _HEADS * _SIZE, _HEADS + 2 * _KV_HEADS
        self._weights = [
            (
                mx.random.normal((hidden, num_heads * _SIZE), dtype, scale=hidden**-0.5),
                mx.random.normal((hidden, hidden), dtype, scale=hidden**-0.5),
            )
            for _ in range(layers)
        ]
        self.caches = [[mx.zeros(shape, dtype) for _ in range(2)] for _ in range(layers)]
        self.hidden = mx.ones((len(lengths), hidden), dtype)
        mx.eval(self._weights, self.caches, self.hidden)

    def step(self) -> mx.array:
        """Build one step; return the new keys of the layer in the middle."""
        x, halfway = self.hidden, self.hidden
        for i, ((inputs, output), cache) in enumerate(
            zip(self._weights, self.caches, strict=True)
        ):
            heads = (x @ inputs).reshape(len(x), -1, 1, _SIZE)
            queries, keys, values = mx.split(heads, [_HEADS, _HEADS + _KV_HEADS], axis=1)
            if i == len(self.caches) // 2:
                halfway = keys
            cache[:] = (
                self._write(array, new, self._slots)
                for array, new in zip(cache, (keys, values), strict=True)
            )
            past = [array[:, :, : self._slots.longest + 1] for array in cache]
            mixed = mx.fast.scaled_dot_product_attention(
                queries, *past, scale=_SIZE**-0.5, mask=self._slots.mask(1, None)
            )
            x = x + mixed.reshape(x.shape) @ output
        self.hidden = x / mx.abs(x).max()
        self._slots.lengths = [length + 1 for length in self._slots.lengths]
        return halfway

    def decode(self, steps: int, launch: str) -> list[float]:
        """Decode; return the seconds of each step. ``Batch`` launches "halves".

        Each step is read when the next one, or its first half, is launched.
        """
        times, halfway = [], self.hidden
        token = mx.argmax(self.hidden, axis=-1)
        for _ in range(steps):
            started_at = time.perf_counter()
            halfway_before, halfway = halfway, self.step()
            if launch == "halves":
                mx.eval(halfway_before)
                mx.async_eval(halfway)
                token.tolist()
            mx.async_eval(self.hidden)
            token_before, token = token, mx.argmax(self.hidden, axis=-1)
            mx.async_eval(token)
            (token if launch == "waited" else token_before).tolist()
            times.append(time.perf_counter() - started_at)
        token.tolist()
        return times


def measure(
    write: Write, launch: str, *, length: int, rows: int = 4, layers: int = 4, steps: int = 20
) -> Measurement:
    """Measure one way to write and to launch.

    MLX may keep about ten command buffers in flight (on the CPU: a hundred tasks). A decoder of
    so few layers that a step is shorter than that shows the copies.
    """
    decoder = Decoder(write, [length - i for i in range(rows)], layers)
    decoder.decode(_WARM_UP, launch)
    size = sum(array.nbytes for cache in decoder.caches for array in cache)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    seconds = statistics.median(decoder.decode(steps, launch))
    copied = (mx.get_peak_memory() - before) / size
    return Measurement(write.__name__, launch, rows, length, 1000 * seconds, copied)


def check_slots(length: int = LENGTHS[0]) -> list[Measurement]:
    """The writes of the product with each way to launch; the product launches halves."""
    return [
        measure(write, launch, length=length)
        for write in (scatter, slice_update)
        for launch in LAUNCHES
    ]
