"""Snapshots of layers that cannot be cut, and which of them stay."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache
from support.simulation import FakeSnapshot

from mlxnode.engine.kvcache.snapshot import (
    Snapshot,
    continued,
    only_plain,
    snapshot_bytes,
    uncut_length,
)
from mlxnode.engine.kvcache.snapshot_pool import SnapshotPool

WINDOW = 8


def data(start: int, stop: int) -> mx.array:
    """Keys that tell their positions, [1, 1, N, 4]."""
    return mx.broadcast_to(mx.arange(start, stop)[None, None, :, None], (1, 1, stop - start, 4))


def window(*chunks: int, keep: int = 0) -> RotatingKVCache:
    """A window that was filled in chunks of those lengths."""
    layer, start = RotatingKVCache(WINDOW, keep), 0
    for chunk in chunks:
        layer.update_and_fetch(*[data(start, start + chunk) + 0.0] * 2)
        start += chunk
    return layer


def held(layer: RotatingKVCache) -> set[int]:
    return set(np.array(layer.keys_and_values()[0])[0, 0, :, 0].astype(int).tolist())


@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize(
    "chunks", [(3,), (8,), (20,), (5, 1, 1, 1, 1), (20, 1, 1, 1), (3, 9, 1)]
)
@pytest.mark.parametrize("more", [(1, 1, 1), (5, 1), (1, 12)])
def test_a_window_goes_on_from_a_snapshot_as_if_nothing_happened(keep, chunks, more):
    layer, length = window(*chunks, keep=keep), sum(chunks)
    needed = snapshot_bytes([layer])
    snapshot = Snapshot([layer], length, is_border=True)
    assert snapshot.nbytes == needed == 2 * min(length, WINDOW) * 4 * 4
    for _ in range(2):  # whoever starts from a snapshot does not change it
        [mine] = snapshot.restore(length)
        theirs = window(*chunks, keep=keep)
        start = length
        for chunk in more:
            mask, other = (each.make_mask(chunk, return_array=True) for each in (mine, theirs))
            assert (mask is None) == (other is None)
            mine.update_and_fetch(*[data(start, start + chunk) + 0.0] * 2)
            theirs.update_and_fetch(*[data(start, start + chunk) + 0.0] * 2)
            start += chunk
        assert mine.offset == theirs.offset and held(mine) == held(theirs)


def test_a_window_that_has_lost_nothing_is_cut():
    snapshot = Snapshot([window(6, 1, 1)], 8, is_border=True)
    assert (snapshot.shortest, snapshot.length) == (0, 8)
    [cut] = snapshot.restore(5)
    assert held(cut) == set(range(5)) and cut.offset == 5
    cut.update_and_fetch(*[data(50, 52) + 0.0] * 2)
    assert held(cut) == {0, 1, 2, 3, 4, 50, 51}
    assert held(next(snapshot.restore(8))) == set(range(8))
    assert Snapshot([window(6, 1, 1, 1)], 9, is_border=True).shortest == 9


def test_a_state_is_of_one_length_and_stays_as_it_was():
    states = ArraysCache(2)
    states[0] = mx.ones((1, 4))
    snapshot = Snapshot([states], 3, is_border=False)
    states[0] = states[0] + 1
    [restored] = snapshot.restore(3)
    restored[0][:, 0] = 7
    assert next(snapshot.restore(3))[0].tolist() == [[1, 1, 1, 1]] and restored[1] is None
    assert snapshot.shortest == 3 and snapshot.nbytes == 16


def test_a_cache_is_taken_apart_and_put_together():
    plain, states, ring = KVCache(), ArraysCache(1), window(5)
    plain.update_and_fetch(*[data(0, 5) + 0.0] * 2)
    states[0] = mx.ones((1, 4))
    cache = [CacheList(states, plain), ring]
    snapshot = Snapshot(cache, 5, is_border=True)
    alone = only_plain(cache)
    assert sum(layer.nbytes for layer in alone) == plain.nbytes
    [[first, second], third] = continued(alone, snapshot, 5)
    assert second is plain and first[0].tolist() == states[0].tolist()
    assert held(third) == held(ring)
    assert uncut_length(cache) == 0 and uncut_length([ring, plain]) == WINDOW


def lengths(path: list[Snapshot]) -> list[int]:
    return [snapshot.length for snapshot in path]


def test_pool_counts_a_shared_snapshot_once():
    pool, one, two = SnapshotPool(), [], []
    shared, alone = FakeSnapshot(10, 100), FakeSnapshot(20, 100)
    pool.add(one, [alone, shared])
    pool.add(two, [shared, shared])
    assert pool.nbytes == 200 and lengths(one) == [10, 20] and lengths(two) == [10]
    assert not pool.evict_from(two)  # another path has it
    pool.clear(one)
    assert pool.nbytes == 100 and pool.evict_from(two) and pool.nbytes == 0


def test_pool_evicts_the_tail_last_and_borders_after_those_between():
    pool, path = SnapshotPool(), []
    for length in range(10, 70, 10):
        pool.add(path, [FakeSnapshot(length, 1, is_border=length in (20, 60))])
    evicted = []
    while path:
        before = lengths(path)
        pool.evict_from(path)
        evicted += set(before) - set(lengths(path))
    assert evicted[-2:] == [20, 60] and pool.nbytes == 0
    assert evicted[:-2] == [10, 30, 50, 40]
