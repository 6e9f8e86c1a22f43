"""The prefix cache: KV caches that later requests with the same prefix continue from.

A request loads the longest prefix that it shares with a running request, whose cache is in the
batch, or with a finished sequence (prompt and answer). Layers that cannot be cut come from the
snapshot before the end of that prefix (``snapshot.py``). When memory is needed, the least
recently used sequence is evicted. The part that other sequences shared stays as an entry of its
own, so system prompts stay longest. Snapshots have a limit of their own: they are large, and
would leave no memory to keys and values otherwise.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.entries import (
    DiskEntry,
    FinishedEntry,
    LoadableEntry,
    PrefixEntry,
    RunningEntry,
)
from mlxnode.engine.kvcache.prompt_cache import PromptCache, SequenceCache
from mlxnode.engine.kvcache.snapshot import Snapshot, snapshot_bytes, take_snapshot
from mlxnode.engine.kvcache.snapshot_pool import SnapshotPool

MAX_ENTRIES = 256  # a lookup compares a prompt with each entry, which takes microseconds
MIN_SHARED = 16  # tokens; a shorter prefix does not get an entry of its own
MAX_PATH_SHARE = 2  # one sequence has at most the half of the memory for snapshots


class CachedPrefix(NamedTuple):
    """The cached prefix of a prompt, for a request to continue from."""

    cache: PromptCache
    length: int  # tokens
    logits: mx.array | None  # [1, V] after the prefix, if it is the whole prompt
    num_common: int  # tokens that a cached sequence has in common with the prompt
    snapshots: Sequence[Snapshot]  # of the prefix


class PrefixCache:
    """The entries of one model, within two limits and the free part of the budget.

    ``limit`` gives the bytes for keys and values, ``snapshot_limit`` those for snapshots. With
    a ``store``, ``save_next`` also writes the entries to disk. They are loaded from there when
    a prompt starts with them.
    """

    def __init__(
        self,
        limit: Callable[[], int],
        budget: MemoryBudget,
        store: PrefixStore | None = None,
        snapshot_limit: Callable[[], int] | None = None,
    ):
        self._limit = limit
        self._snapshot_limit = snapshot_limit or limit
        self._budget = budget
        self._store = store
        self._finished: list[FinishedEntry] = []  # the least recently used first
        self._running: list[RunningEntry] = []
        self._pool = SnapshotPool()
        budget.evictors.append(self.evict)

    @property
    def nbytes(self) -> int:
        return self._plain_bytes + self._pool.nbytes

    @property
    def num_entries(self) -> int:
        return len(self._finished)

    @property
    def is_enabled(self) -> bool:
        return self._limit() > 0

    @property
    def takes_snapshots(self) -> bool:
        return self.is_enabled and self._snapshot_limit() > 0

    def find(self, prompt: Sequence[int]) -> CachedPrefix | None:
        """The longest cached prefix of ``prompt``.

        It includes the last token only if the logits after it are cached as well. Otherwise
        the model has to run on the last token.
        """
        tokens = np.array(prompt, np.int32)
        running = [entry for entry in self._running if entry.is_complete]
        best, length, common = _longest([*running, *self._finished], tokens)
        if self._load_from_disk(tokens, length):
            best, length, common = _longest([*running, *self._finished], tokens)
        if not isinstance(best, LoadableEntry):
            return None
        if isinstance(best, FinishedEntry) and best in self._finished:
            self._finished.remove(best)
            self._finished.append(best)
        if length < len(tokens) - 1:
            best.num_shared = max(best.num_shared, length)
        logits = best.logits if length == len(tokens) else None
        snapshots = [snapshot for snapshot in best.snapshots if snapshot.length <= length]
        return CachedPrefix(best.load(length), length, logits, common, snapshots)

    def add_running(self, entry: RunningEntry, snapshots: Iterable[Snapshot] = ()) -> None:
        """Offer the prompt of a running request, until ``remove_running``.

        ``snapshots`` are those of the prefix that the request continues from.
        """
        self._running.append(entry)
        self._pool.add(entry.snapshots, snapshots)

    def remove_running(self, entry: RunningEntry) -> None:
        """Stop to offer the prompt of a request that runs no more."""
        self._running = [running for running in self._running if running is not entry]
        self._pool.clear(entry.snapshots)
        self.settle()

    def clear_running(self) -> None:
        """No request runs any more."""
        for entry in list(self._running):
            self.remove_running(entry)

    def take_snapshot(
        self, entry: RunningEntry, cache: PromptCache, length: int, *, is_border: bool
    ) -> None:
        """Keep a snapshot of ``cache``, the cache of the first tokens of ``entry``.

        Nothing is kept if there is no memory for it.
        """
        size = snapshot_bytes(cache)
        if any(known.length == length for known in entry.snapshots):
            return
        allowed = self._snapshot_limit() // MAX_PATH_SHARE - size
        while sum(known.nbytes for known in entry.snapshots) > max(allowed, 0):
            if not self._pool.evict_from(entry.snapshots):
                break  # the others belong to finished sequences, too
        if allowed >= 0 and self.make_room(0, size):
            self._pool.add(entry.snapshots, [take_snapshot(cache, length, is_border=is_border)])
        self.settle()

    def add(
        self,
        tokens: Sequence[int],
        cache: SequenceCache,
        running: PrefixEntry | None = None,
        end: Snapshot | None = None,
    ) -> None:
        """Keep ``cache``, the cache of ``tokens``. Nothing may write to it from now on.

        Layers that cannot be cut are ``Elsewhere`` in it. ``running`` is the entry of the same
        request while it ran, ``end`` a snapshot after all tokens.
        """
        entry = FinishedEntry(tokens, cache)
        snapshots = [] if end is None else [end]
        if running is not None:
            entry.num_shared = running.num_shared
            entry.remember(running.prompt_length, running.logits)
        if isinstance(running, LoadableEntry):
            snapshots += running.snapshots
        self._keep(entry, snapshots)

    @property
    def has_unsaved(self) -> bool:
        """True if there are entries to write to disk."""
        return self._store is not None and any(not entry.is_saved for entry in self._finished)

    def save_next(self) -> None:
        """Write the most recently used unsaved entry to disk."""
        entry = next(entry for entry in reversed(self._finished) if not entry.is_saved)
        entry.is_saved = True
        if self._store is not None and len(entry.tokens) >= MIN_SHARED:
            self._store.save(entry)

    def make_room(self, size: int, snapshot_size: int = 0) -> bool:
        """Evict until one more entry and one more snapshot fit; False if they never do.

        The bytes are claimed until the next ``settle``.
        """
        if not self.is_enabled or size > self._limit():
            return False
        if snapshot_size > self._snapshot_limit():
            return False
        while not self._fits(size, snapshot_size):
            if not self._evict_for(snapshot_size):
                self.settle()
                return False
        return True

    def settle(self) -> None:
        """Claim what the entries need, and no more."""
        self._budget.claim(self, self._needed())

    def evict(self, size: int) -> None:
        """Release at least ``size`` bytes, or all that there are."""
        target = max(self.nbytes - size, 0)
        while self.nbytes > target:
            if self._finished:
                self._evict_oldest()
            elif not self._evict_snapshot():
                break
        self.settle()

    def clear(self) -> None:
        """Evict all entries, without a copy of the parts that others shared."""
        for entry in list(self._finished):
            self._remove(entry)
        for running in self._running:
            self._pool.clear(running.snapshots)
        self.settle()

    def close(self) -> None:
        """Release all memory, and the place in the budget. The cache is not used afterwards."""
        self.clear_running()
        self.clear()
        self._budget.evictors.remove(self.evict)
        self._budget.drop(self)

    @property
    def _plain_bytes(self) -> int:
        return sum(entry.nbytes for entry in self._finished)

    def _keep(self, entry: FinishedEntry, snapshots: Iterable[Snapshot] = ()) -> None:
        if not self.is_enabled or not len(entry.tokens) or entry.nbytes > self._limit():
            return
        self._pool.add(entry.snapshots, snapshots)
        for other in list(self._finished):
            common = other.num_common(entry.tokens)
            if common == len(entry.tokens):  # the other entry contains the new one
                other.remember(entry.prompt_length, entry.logits)
                self._pool.add(other.snapshots, _within(entry.snapshots, common))
                self._pool.clear(entry.snapshots)
                self._trim_snapshots()
                return
            if common == len(other.tokens):  # the new entry contains the other one
                entry.num_shared = max(entry.num_shared, other.num_shared)
                if entry.logits is None:
                    entry.remember(other.prompt_length, other.logits)
                self._pool.add(entry.snapshots, _within(other.snapshots, common))
                self._remove(other)
        self._finished.append(entry)
        self._trim_snapshots()
        while not self._fits() and self._finished:
            self._evict_oldest()

    def _load_from_disk(self, tokens: np.ndarray, cached: int) -> bool:
        """Load the longest prefix on disk, if it is longer than the ``cached`` tokens."""
        if self._store is None or not self.is_enabled:
            return False
        stored, length, _ = _longest(self._store.entries, tokens)
        if not isinstance(stored, DiskEntry) or length < cached + MIN_SHARED:
            return False
        snapshot_size = stored.snapshot_bytes
        if not self.make_room(stored.nbytes - snapshot_size, snapshot_size):
            return False
        loaded = self._store.load(stored)
        self.settle()
        if loaded is None:
            return self._load_from_disk(tokens, cached)  # without the entry that got lost
        cache, snapshots = loaded
        entry = FinishedEntry(stored.tokens, SequenceCache(cache), stored.num_shared)
        entry.is_saved = True
        self._keep(entry, snapshots)
        return True

    def _fits(self, added: int = 0, added_snapshot: int = 0) -> bool:
        """Claim the memory of all entries and of the added bytes, if the budget has it."""
        return (
            len(self._finished) + (added > 0) <= MAX_ENTRIES
            and self._plain_bytes + added <= self._limit()
            and self._pool.nbytes + added_snapshot <= self._snapshot_limit()
            and self._budget.claim(self, self._needed() + added + added_snapshot, evicts=False)
        )

    def _needed(self) -> int:
        """The bytes of all entries, and of the layer that an eviction copies at a time."""
        layers = [entry.largest_layer for entry in self._finished if _is_cut(entry)]
        return self.nbytes + max(layers, default=0)

    def _evict_for(self, snapshot_size: int) -> bool:
        """Evict from the part that has no room; False if there is nothing to evict."""
        if self._pool.nbytes + snapshot_size > self._snapshot_limit() or not self._finished:
            return self._evict_snapshot()
        self._evict_oldest()
        return True

    def _trim_snapshots(self) -> None:
        while self._pool.nbytes > self._snapshot_limit() and self._evict_snapshot():
            pass

    def _evict_snapshot(self) -> bool:
        """Evict the least valuable snapshot of the oldest entry; False if there is none."""
        for entry in self._finished:
            if self._pool.evict_from(entry.snapshots):
                if not entry.snapshots:
                    self._remove(entry)  # nothing can be loaded from it
                return True
        for entry in self._finished:
            if entry.snapshots:  # all of them shared
                self._remove(entry)
                return True
        return any(self._pool.evict_from(entry.snapshots) for entry in self._running)

    def _evict_oldest(self) -> None:
        entry = self._finished[0]
        if _is_cut(entry):
            length = entry.usable(entry.num_shared)
            shared = entry.cut(length)
            kept = [s for s in entry.snapshots if s.shortest <= length]
            self._pool.add(shared.snapshots, kept)
            self._finished.append(shared)
        self._remove(entry)

    def _remove(self, entry: FinishedEntry) -> None:
        self._finished = [known for known in self._finished if known is not entry]
        self._pool.clear(entry.snapshots)


def _is_cut(entry: FinishedEntry) -> bool:
    """True if a part of the entry stays when the entry is evicted."""
    return MIN_SHARED <= entry.usable(entry.num_shared) < len(entry.tokens)


def _within(snapshots: Iterable[Snapshot], length: int) -> list[Snapshot]:
    return [snapshot for snapshot in snapshots if snapshot.length <= length]


def _longest(
    entries: Iterable[PrefixEntry], tokens: np.ndarray
) -> tuple[PrefixEntry | None, int, int]:
    """The entry with the longest usable prefix of ``tokens``, and the length of that prefix.

    The last number is the longest common prefix, usable or not.
    """
    best, length, longest = None, 0, 0
    for entry in entries:
        common = entry.num_common(tokens)
        longest = max(longest, common)
        if common == len(tokens) != entry.prompt_length:
            common -= 1
        usable = entry.usable(common)
        if usable > length:
            best, length = entry, usable
    return best, length, longest
