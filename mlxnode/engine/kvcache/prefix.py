"""The prefix cache: KV caches that later requests with the same prefix continue from.

A request loads the longest prefix that it shares with a running request, whose cache is in the
batch, or with a finished sequence (prompt and answer). When memory is needed, the least
recently used sequence is evicted. The part that other sequences shared stays as an entry of its
own, so system prompts stay longest.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import mlx.core as mx
import numpy as np

from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.entries import (
    FinishedEntry,
    LoadableEntry,
    PrefixEntry,
    RunningEntry,
)
from mlxnode.engine.kvcache.prompt_cache import PromptCache

MAX_ENTRIES = 256  # a lookup compares a prompt with each entry, which takes microseconds
MIN_SHARED = 16  # tokens; a shorter prefix does not get an entry of its own

AnyEntry = TypeVar("AnyEntry", bound=PrefixEntry)


class CachedPrefix(NamedTuple):
    """The cached prefix of a prompt, for a request to continue from."""

    cache: PromptCache
    length: int  # tokens
    logits: mx.array | None  # [1, V] after the prefix, if it is the whole prompt


class PrefixCache:
    """The entries of one model, within ``limit`` bytes and the free part of the budget.

    With a ``store``, ``save_next`` also writes the entries to disk. They are loaded from there
    when a prompt starts with them.
    """

    def __init__(
        self, limit: Callable[[], int], budget: MemoryBudget, store: PrefixStore | None = None
    ):
        self._limit = limit
        self._budget = budget
        self._store = store
        self._finished: list[FinishedEntry] = []  # the least recently used first
        self._running: list[RunningEntry] = []
        budget.evictors.append(self.evict)

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self._finished)

    @property
    def num_entries(self) -> int:
        return len(self._finished)

    @property
    def is_enabled(self) -> bool:
        return self._limit() > 0

    def find(self, prompt: Sequence[int]) -> CachedPrefix | None:
        """The longest cached prefix of ``prompt``.

        It includes the last token only if the logits after it are cached as well. Otherwise
        the model has to run on the last token.
        """
        tokens = np.array(prompt, np.int32)
        loadable: list[LoadableEntry] = [*self._running, *self._finished]
        best, length = _longest(loadable, tokens)
        if (loaded := self._load_from_disk(tokens, length)) is not None:
            best, length = _longest([loaded], tokens)
        if best is None:
            return None
        if isinstance(best, FinishedEntry) and best in self._finished:
            self._finished.remove(best)
            self._finished.append(best)
        if length < len(tokens) - 1:
            best.num_shared = max(best.num_shared, length)
        logits = best.logits if length == len(tokens) else None
        return CachedPrefix(best.load(length), length, logits)

    def add_running(self, entry: RunningEntry) -> None:
        """Offer the prompt of a running request, until ``remove_running``."""
        self._running.append(entry)

    def remove_running(self, entry: PrefixEntry) -> None:
        """Stop to offer the prompt of a request that runs no more."""
        self._running = [running for running in self._running if running is not entry]

    def clear_running(self) -> None:
        """No request runs any more."""
        self._running.clear()

    def add(
        self, tokens: Sequence[int], cache: PromptCache, running: PrefixEntry | None = None
    ) -> None:
        """Keep ``cache``, the cache of ``tokens``. Nothing may write to it from now on.

        ``running`` is the entry of the same request while it ran.
        """
        entry = FinishedEntry(tokens, cache)
        if running is not None:
            entry.num_shared = running.num_shared
            entry.remember(running.prompt_length, running.logits)
        self._keep(entry)

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

    def make_room(self, size: int) -> bool:
        """Evict until one more entry of ``size`` bytes fits; False if it never does.

        The bytes are claimed until the next ``settle``.
        """
        if not self.is_enabled or size > self._limit():
            return False
        while not self._fits(size):
            if not self._finished:
                self.settle()
                return False
            self._evict_oldest()
        return True

    def settle(self) -> None:
        """Claim what the entries need, and no more."""
        self._budget.claim(self, self._needed())

    def evict(self, size: int) -> None:
        """Release at least ``size`` bytes, or all that there are."""
        target = max(self.nbytes - size, 0)
        while self.nbytes > target:
            self._evict_oldest()
        self.settle()

    def clear(self) -> None:
        """Evict all entries, without a copy of the parts that others shared."""
        self._finished.clear()
        self._budget.claim(self, 0)

    def _keep(self, entry: FinishedEntry) -> None:
        if not self.is_enabled or not len(entry.tokens) or entry.nbytes > self._limit():
            return
        for other in list(self._finished):
            common = other.num_common(entry.tokens)
            if common == len(entry.tokens) and other.is_trimmable:
                other.remember(entry.prompt_length, entry.logits)
                return  # the other entry contains the new one
            if common == len(other.tokens) and entry.is_trimmable:
                entry.num_shared = max(entry.num_shared, other.num_shared)
                if entry.logits is None:
                    entry.remember(other.prompt_length, other.logits)
                self._finished.remove(other)  # the new entry contains the other one
        self._finished.append(entry)
        while not self._fits() and self._finished:
            self._evict_oldest()

    def _load_from_disk(self, tokens: np.ndarray, cached: int) -> FinishedEntry | None:
        """Load the longest prefix on disk, if it is longer than the ``cached`` tokens."""
        if self._store is None or not self.is_enabled:
            return None
        stored, length = _longest(self._store.entries, tokens)
        if stored is None or length < cached + MIN_SHARED:
            return None
        if not self.make_room(stored.nbytes):
            return None
        cache = self._store.load(stored)
        self.settle()
        if cache is None:
            return self._load_from_disk(tokens, cached)  # without the entry that got lost
        entry = FinishedEntry(stored.tokens, cache, stored.num_shared)
        entry.is_saved = True
        self._keep(entry)
        return entry

    def _fits(self, added: int = 0) -> bool:
        """Claim the memory of all entries and of ``added`` bytes, if the budget has it."""
        return (
            len(self._finished) + (added > 0) <= MAX_ENTRIES
            and self.nbytes + added <= self._limit()
            and self._budget.claim(self, self._needed() + added, evicts=False)
        )

    def _needed(self) -> int:
        """The bytes of all entries, and of the layer that an eviction copies at a time."""
        layers = [entry.largest_layer for entry in self._finished if _is_cut(entry)]
        return self.nbytes + max(layers, default=0)

    def _evict_oldest(self) -> None:
        entry = self._finished.pop(0)
        if _is_cut(entry):
            self._finished.append(entry.cut(entry.num_shared))


def _is_cut(entry: FinishedEntry) -> bool:
    """True if a part of the entry stays when the entry is evicted."""
    return entry.is_trimmable and MIN_SHARED <= entry.num_shared < len(entry.tokens)


def _longest(entries: Iterable[AnyEntry], tokens: np.ndarray) -> tuple[AnyEntry | None, int]:
    """The entry with the longest usable prefix of ``tokens``, and the length of that prefix."""
    best, length = None, 0
    for entry in entries:
        common = entry.num_common(tokens)
        if common == len(tokens) != entry.prompt_length:
            common -= 1
        if common > length and (common == len(entry.tokens) or entry.is_trimmable):
            best, length = entry, common
    return best, length
