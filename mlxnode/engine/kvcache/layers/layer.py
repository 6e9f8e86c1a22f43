"""What a batch needs of the cache of a layer, whatever its kind.

The model calls other methods, those of mlx-lm's caches. Which ones depends on the kind.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from mlxnode.engine.kvcache.prompt_cache import Arrays, LayerCache


class BatchLayer(Protocol):
    """The cache of one layer, with all rows of a batch in their slots."""

    # True if the model replaces the arrays in each pass: nothing is written in place, and
    # no token can be taken back.
    is_replaced: bool
    is_halfway: bool  # True for the layer in the middle of the model

    @property
    def state(self) -> Any:
        """All arrays."""
        ...

    @property
    def nbytes(self) -> int: ...

    @property
    def capacity(self) -> tuple[int, int]:
        """The slots and the positions that are allocated; a window counts the hidden ones."""
        ...

    def join(self, caches: Sequence[Any], lengths: Sequence[int]) -> None:
        """Write layer caches of single sequences into the next free slots."""
        ...

    def grow(self, rows: int, length: int) -> None:
        """Allocate ``rows`` slots and ``length`` positions now, if there are fewer."""
        ...

    def shrink(self, rows: int, length: int) -> None:
        """Release memory if half of the slots or of the positions are enough."""
        ...

    def read(self, slot: int, length: int) -> Arrays:
        """A copy of a slot that holds ``length`` tokens."""
        ...

    def write(self, slot: int, row: Arrays) -> None:
        """Write what ``read`` returned for a slot into another slot."""
        ...

    def extract(self, slot: int, length: int, /) -> LayerCache:
        """A copy of a row, as the cache of one sequence.

        It has the first ``length`` tokens if the layer can be cut, otherwise all tokens.
        """
        ...
