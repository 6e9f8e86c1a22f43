"""The slots of a batch: what the caches of all layers share.

The first B slots hold the B rows of the batch, left-aligned. A row has a number of positions,
which grows in steps, as the number of slots does.

MLX writes into an array in place only if nothing else refers to its memory; otherwise it copies
the whole array. Work that is launched and not complete refers to it. docs/kv-updates.md says
when, and what ``decode/batch.py`` does about it.
"""

from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeVar

import mlx.core as mx
import numpy as np

Shared = TypeVar("Shared")

_POSITION_STEP = 128  # positions by which the arrays grow
_SLOT_STEP = 4  # slots by which the arrays grow

# What attention takes: no mask, plain causal, or the positions that each token attends to.
Mask = mx.array | Literal["causal"] | None


class Slots:
    """The state that all layers of a batch share: the length of each row.

    The host knows the lengths, so no layer has to read them from the device. What the layers
    of a step share is made once, on the host where that is possible: each operation is a launch
    of the device. Rows of one length need no masks and no indices; one row is the usual case.
    """

    def __init__(self) -> None:
        self.lengths = []
        # The new keys of the layer in the middle: they need all layers before it, and no other.
        self.halfway: mx.array | None = None
        # How many of the next tokens of each row are no padding, [B]; None: all.
        self.counts: mx.array | None = None
        self._positions = mx.arange(0)  # evaluated, and read by the masks of many steps

    @property
    def lengths(self) -> list[int]:
        """Tokens in the cache of each row."""
        return self._lengths

    @lengths.setter
    def lengths(self, lengths: list[int]) -> None:
        self._lengths = lengths
        self.longest = max(lengths, default=0)
        self.shortest = min(lengths, default=0)
        self.are_even = self.shortest == self.longest  # True if all rows have one length
        # Computed once for all layers of a step.
        self._offsets: mx.array | None = None
        self._masks: dict[tuple[int, int | None], mx.array] = {}
        self._shared: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Shared]) -> Shared:
        """What ``make`` returns. It is called once for all layers of a step."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    @property
    def offset(self) -> int | mx.array:
        """The position of the next token: of all rows, or of each row, [B]."""
        return self.longest if self.are_even else self.offsets

    @property
    def offsets(self) -> mx.array:
        """The position of the next token of each row, [B]."""
        if self._offsets is None:
            self._offsets = mx.array(self.lengths, mx.int32)
        return self._offsets

    def targets(self, heads: int, count: int, ring: int | None = None) -> tuple[mx.array, ...]:
        """The slots, heads and positions of the next tokens of each row, [B, H, count] each.

        They index the cache of a layer, and no layer has to compute or convert them again. In
        a ``ring`` of so many positions, they begin again after the last one.
        """

        def make() -> tuple[mx.array, ...]:
            indices = np.indices((len(self.lengths), heads, count), np.uint32)
            indices[2] += np.array(self.lengths, np.uint32)[:, None, None]
            if ring is not None:
                indices[2] %= ring
            return tuple(map(mx.array, indices))

        return self.once(("targets", heads, count, ring), make)

    def mask(self, count: int, window: int | None, *, as_array: bool = False) -> Mask:
        """The positions that the next ``count`` tokens of each row attend to.

        None if a token attends to all positions, "causal" if each token attends to all up to
        its own, unless ``as_array``; else bool [B or 1, 1, count, T].
        """
        if window is not None and self.longest + count <= window:
            window = None
        if self.are_even and window is None and (count == 1 or not as_array):
            return None if count == 1 else "causal"
        if (count, window) not in self._masks:
            self._masks[count, window] = self._make_mask(count, window)
        return self._masks[count, window]

    def _make_mask(self, count: int, window: int | None) -> mx.array:
        rows = np.array(self.lengths[:1] if self.are_even else self.lengths, np.int32)
        own = rows[:, None, None, None] + np.arange(count, dtype=np.int32)[:, None]
        length = self.longest + count
        if self._positions.size < length:
            self._positions = mx.arange(num_positions(length))
        positions = self._positions[:length]
        if window is None:
            return positions <= mx.array(own)
        inside = positions > mx.array(own - window)
        if self.are_even and count == 1:
            return inside
        return inside & (positions <= mx.array(own))

    def is_causal(self, mask: Any) -> bool:
        """True if each token attends to all positions up to its own."""
        if mask is None or isinstance(mask, str):
            return True
        return any(known is mask and key[1] is None for key, known in self._masks.items())


def num_slots(rows: int) -> int:
    """The slots that a batch of ``rows`` rows allocates."""
    return rows if rows <= 2 else -(-rows // _SLOT_STEP) * _SLOT_STEP


def shrunk(held: int, needed: int) -> int:
    """``needed`` slots or positions if they are at most half of those ``held``; else these."""
    return needed if 2 * needed <= held else held


def num_positions(length: int) -> int:
    """The positions that a row of ``length`` tokens allocates."""
    return -(-length // _POSITION_STEP) * _POSITION_STEP
