"""The prefix cache of models whose caches cannot be cut: snapshots, their limit, evictions."""

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache
from support.simulation import FakeSnapshot

from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.entries import RunningEntry
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.engine.kvcache.snapshot import Elsewhere

TOKEN = 2 * 4 * 2  # bytes: keys and values, two floats each


def row_of(tokens: list[int]) -> list[KVCache]:
    """One layer whose keys tell the tokens."""
    cache = KVCache()
    data = mx.broadcast_to(
        mx.array(tokens, mx.float32)[None, None, :, None], (1, 1, len(tokens), 2)
    )
    cache.keys, cache.values, cache.offset = data + 0, data + 0, len(tokens)
    return [cache]


def make_prefixes(limit: int) -> PrefixCache:
    return PrefixCache(lambda: limit * TOKEN, MemoryBudget(10**6 * TOKEN))


def add_plain(prefixes: PrefixCache, tokens: list[int]) -> None:
    prefixes.add(tokens, row_of(tokens))


def add_uncut(prefixes: PrefixCache, tokens: list[int], *lengths: int, size: int = 10) -> None:
    """A sequence of a model with states, and its snapshots of ``size`` tokens' bytes."""
    entry = RunningEntry(tokens, row_of, is_trimmable=False)
    snapshots = [FakeSnapshot(length, size * TOKEN) for length in lengths]
    prefixes.add_running(entry, snapshots)
    prefixes.add(tokens, [*row_of(tokens), Elsewhere()], entry)
    prefixes.remove_running(entry)


def found(prefixes: PrefixCache, tokens: list[int]) -> int:
    cached = prefixes.find([*tokens, 999])
    if cached is None:
        return 0
    keys = cached.cache[0].keys_and_values()[0]
    assert np.array(keys)[0, 0, :, 0].tolist() == tokens[: cached.length]
    return cached.length


def test_the_nearest_snapshot_below_the_common_prefix_is_found():
    prefixes = make_prefixes(1000)
    text = list(range(100))
    add_uncut(prefixes, text, 30, 60, 100)
    for common, length in ((100, 100), (99, 60), (60, 60), (59, 30), (29, 0)):
        assert found(prefixes, [*text[:common], 500]) == length
    cached = prefixes.find([*text[:70], 500])
    assert cached.num_common == 70
    assert [snapshot.length for snapshot in cached.snapshots] == [30, 60]


def test_a_sequence_that_contains_another_has_the_snapshots_of_both():
    prefixes = make_prefixes(1000)
    text = list(range(100))
    add_uncut(prefixes, text[:60], 30, 60)
    add_uncut(prefixes, text, 100)
    add_uncut(prefixes, text[:80], 80)
    assert prefixes.num_entries == 1 and prefixes.nbytes == (100 + 40) * TOKEN
    assert [found(prefixes, text[:n]) for n in (35, 65, 85, 100)] == [30, 60, 80, 100]


def test_snapshots_have_a_limit_of_their_own():
    budget = MemoryBudget(10**6)
    prefixes = PrefixCache(lambda: 1000 * TOKEN, budget, snapshot_limit=lambda: 50 * TOKEN)
    add_plain(prefixes, [7] * 40)
    for start in (1000, 2000, 3000):
        text = list(range(start, start + 100))
        add_uncut(prefixes, text, 30, 100)
    # The oldest sequence lost one after the other, and went with the last.
    assert prefixes.num_entries == 4 and prefixes.nbytes <= (340 + 50) * TOKEN
    assert found(prefixes, list(range(3000, 3100))) == 100
    assert found(prefixes, list(range(3000, 3050))) == 30
    assert found(prefixes, list(range(1000, 1050))) == 0
    assert found(prefixes, [7] * 40) == 40  # plain ones need none
    assert budget.claimed >= prefixes.nbytes


def test_a_sequence_without_snapshots_is_not_kept():
    prefixes = PrefixCache(
        lambda: 1000 * TOKEN, MemoryBudget(10**6), snapshot_limit=lambda: 20 * TOKEN
    )
    for start in (1000, 2000, 3000, 4000):
        add_uncut(prefixes, list(range(start, start + 50)), 50)
    assert prefixes.num_entries == 2 and prefixes.nbytes == 120 * TOKEN


def test_the_shared_part_of_an_evicted_sequence_keeps_its_snapshots():
    prefixes = PrefixCache(lambda: 150 * TOKEN, MemoryBudget(10**6))
    text = list(range(100))
    add_uncut(prefixes, text, 40, 70, 100)
    assert found(prefixes, [*text[:50], 500]) == 40
    add_plain(prefixes, [7] * 60)
    assert found(prefixes, [*text, 1]) == 40
    assert prefixes.nbytes == (40 + 10 + 60) * TOKEN


def test_running_requests_lose_snapshots_before_others_lose_memory():
    budget = MemoryBudget(200 * TOKEN)
    prefixes = PrefixCache(lambda: 100 * TOKEN, budget)
    entry = RunningEntry([1] * 50, row_of, is_trimmable=False)
    prefixes.add_running(entry, [FakeSnapshot(n, 30 * TOKEN) for n in (10, 20, 50)])
    prefixes.settle()
    assert budget.claimed == 90 * TOKEN
    assert budget.claim("batch", 150 * TOKEN)
    assert [snapshot.length for snapshot in entry.snapshots] == [50]
    prefixes.clear()
    assert budget.claimed == 150 * TOKEN and not entry.snapshots
