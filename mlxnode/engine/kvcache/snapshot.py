"""Snapshots: the layers of a cached sequence that cannot be cut, as they were at one length.

The keys and values of all tokens can be cut anywhere. States (Mamba, gated delta nets,
convolutions) are those after one token only, and a sliding window has lost what left it. So a
prefix is continued from the keys and values of a longer sequence, cut, and from a snapshot.

A snapshot refers to the arrays of the sequence, with no copy: a model replaces states as a
whole, and MLX copies an array that two caches refer to before it writes into it.
"""

import copy
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models.cache import CacheList, RotatingKVCache

from mlxnode.engine.kvcache.prompt_cache import (
    LayerCache,
    PromptCache,
    SequenceCache,
    flat_layers,
    is_plain,
)
from mlxnode.engine.mirror import Mirrored, mirrored


class Elsewhere:
    """In place of a layer whose content is in snapshots."""

    state = None
    nbytes = 0


class Span:
    """The lengths that a snapshot serves: ``shortest`` to ``length`` tokens."""

    def __init__(self, length: int, shortest: int):
        self.length, self.shortest = length, shortest


class Snapshot(Span, Mirrored):
    """The layers of ``cache`` that cannot be cut, after its ``length`` tokens.

    ``is_border``: True if other prompts are likely to part from the sequence there.
    """

    def __init__(self, cache: PromptCache, length: int, *, is_border: bool):
        self.layers = [_apart(leaf) for leaf in flat_layers(cache) if not is_plain(leaf)]
        mx.eval([leaf.state for leaf in self.layers])
        is_whole = all(map(_is_whole, self.layers))
        super().__init__(length, 0 if is_whole else length)
        self.is_border = is_border
        self.nbytes: int = sum(leaf.nbytes for leaf in self.layers)
        self.num_holders = 0  # sequences that have it; ``SnapshotPool`` counts them

    def restore(self, length: int) -> Iterator[LayerCache]:
        """The layers after ``length`` tokens, for a request to continue from."""
        for leaf in self.layers:
            yield _cut(leaf, length) if length < self.length else _apart(leaf)


@mirrored
def take_snapshot(cache: PromptCache, length: int, *, is_border: bool) -> Snapshot:
    """A snapshot of the first ``length`` tokens of a sequence, whose cache is ``cache``."""
    return Snapshot(cache, length, is_border=is_border)


@mirrored
def continued(plain: PromptCache, snapshot: Snapshot, length: int) -> SequenceCache:
    """What ``only_plain`` made, with the other layers after ``length`` tokens."""
    return SequenceCache(_completed(plain, snapshot.restore(length)))


def snapshot_bytes(cache: PromptCache) -> int:
    """The bytes of a snapshot of ``cache`` at its length; 0 if the cache can be cut."""
    return sum(_needed(leaf) for leaf in flat_layers(cache) if not is_plain(leaf))


def uncut_length(cache: PromptCache) -> int:
    """The length up to which one snapshot serves all lengths: that of the shortest window."""
    leaves = [leaf for leaf in flat_layers(cache) if not is_plain(leaf)]
    return min(leaf.max_size if isinstance(leaf, RotatingKVCache) else 0 for leaf in leaves)


@mirrored
def only_plain(cache: PromptCache) -> SequenceCache:
    """``cache`` without the layers that cannot be cut."""
    return SequenceCache(
        CacheList(*only_plain(layer.caches))
        if isinstance(layer, CacheList)
        else layer
        if is_plain(layer)
        else Elsewhere()
        for layer in cache
    )


def _completed(plain: PromptCache, layers: Iterator[LayerCache]) -> list[LayerCache]:
    return [
        CacheList(*_completed(layer.caches, layers))
        if isinstance(layer, CacheList)
        else next(layers)
        if isinstance(layer, Elsewhere)
        else layer
        for layer in plain
    ]


def _apart(leaf: LayerCache) -> LayerCache:
    """A cache with the same content. Neither sees what is written into the other."""
    if isinstance(leaf, RotatingKVCache):
        return _window(leaf)
    twin: Any = copy.copy(leaf)
    twin.state = tree_map(
        lambda value: mx.contiguous(value) if isinstance(value, mx.array) else value, leaf.state
    )
    return twin


def _window(layer: RotatingKVCache) -> RotatingKVCache:
    """The window in the order of its tokens, without what left it and without free room."""
    keys, values, offset, keep, size, next_index = layer.state

    def part(array: mx.array) -> mx.array:
        if next_index < min(offset, array.shape[2]):  # a ring: the oldest is at the index
            pieces = [array[..., :keep, :], array[..., next_index:, :]]
            array = mx.concatenate([*pieces, array[..., keep:next_index, :]], axis=2)
        else:
            array = array[..., :next_index, :]
        if (surplus := array.shape[2] - size) > 0:
            pieces = [array[..., :keep, :], array[..., keep + surplus :, :]]
            array = mx.concatenate(pieces, axis=2)
        return mx.contiguous(array)

    twin = RotatingKVCache(size, keep)
    if keys is not None and values is not None:
        keys, values = part(keys), part(values)
        twin.state = (keys, values, offset, keep, size, keys.shape[2])
    return twin


def _is_whole(leaf: LayerCache) -> bool:
    """True for a window that has lost nothing yet: it can be cut."""
    return isinstance(leaf, RotatingKVCache) and leaf.offset <= leaf.max_size


def _cut(leaf: LayerCache, length: int) -> LayerCache:
    """A window that has lost nothing, cut."""
    if not isinstance(leaf, RotatingKVCache):
        raise TypeError(f"a {type(leaf).__name__} cannot be cut")
    twin = RotatingKVCache(leaf.max_size, leaf.keep)
    if leaf.keys is not None and leaf.values is not None:
        keys, values = (mx.contiguous(a[..., :length, :]) for a in (leaf.keys, leaf.values))
        twin.state = (keys, values, length, leaf.keep, leaf.max_size, length)
    return twin


def _needed(leaf: LayerCache) -> int:
    """The bytes of a layer in a snapshot."""
    if isinstance(leaf, RotatingKVCache) and leaf.keys is not None:
        return leaf.nbytes * min(leaf.offset, leaf.max_size) // leaf.keys.shape[2]
    return leaf.nbytes
