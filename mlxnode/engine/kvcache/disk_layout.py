"""How the layers and the snapshots of a sequence lie in one file: a list, and its description.

The list has the layers of all tokens, those of combined layers one by one, and then the layers
of each snapshot. The description says which is which.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mlx_lm.models.cache import CacheList

from mlxnode.engine.kvcache.entries import FinishedEntry
from mlxnode.engine.kvcache.prompt_cache import LayerCache, PromptCache, flat_layers
from mlxnode.engine.kvcache.snapshot import Elsewhere, Snapshot, Span

Layout = dict[str, Any]


def pack(entry: FinishedEntry) -> tuple[list[LayerCache], Layout]:
    """The layers of ``entry`` in one list, and the layout of that list."""
    plain = [leaf for leaf in flat_layers(entry.cache) if not isinstance(leaf, Elsewhere)]
    layers = [*plain, *(leaf for snapshot in entry.snapshots for leaf in snapshot.layers)]
    layout: Layout = {
        "structure": _structure(entry.cache),
        "snapshots": [[s.length, s.shortest, s.is_border, s.nbytes] for s in entry.snapshots],
    }
    return layers, layout


def unpack(layers: Sequence[LayerCache], layout: Layout) -> tuple[PromptCache, list[Snapshot]]:
    """What ``pack`` has packed.

    Raises:
        ValueError: there are more or fewer layers than the layout has.
    """
    remaining = iter(layers)
    try:
        cache = _restore(layout["structure"], remaining)
        size = sum(isinstance(leaf, Elsewhere) for leaf in flat_layers(cache))
        snapshots = [
            Snapshot([next(remaining) for _ in range(size)], length, is_border=is_border)
            for length, _, is_border, _ in layout["snapshots"]
        ]
    except StopIteration as error:
        raise ValueError("layers are missing") from error
    if next(remaining, None) is not None:
        raise ValueError("there are more layers than the layout has")
    return cache, snapshots


def spans_of(layout: Layout) -> tuple[list[Span], int]:
    """The lengths that the snapshots serve, and their bytes."""
    snapshots = layout["snapshots"]
    spans = [Span(length, shortest) for length, shortest, _, _ in snapshots]
    return spans, sum(nbytes for *_, nbytes in snapshots)


def _structure(cache: PromptCache) -> list[Any]:
    """True for a layer that is in the file, False for one in the snapshots."""
    return [
        _structure(layer.caches)
        if isinstance(layer, CacheList)
        else not isinstance(layer, Elsewhere)
        for layer in cache
    ]


def _restore(structure: list[Any], layers: Iterator[LayerCache]) -> PromptCache:
    return [
        CacheList(*_restore(part, layers))
        if isinstance(part, list)
        else next(layers)
        if part
        else Elsewhere()
        for part in structure
    ]
