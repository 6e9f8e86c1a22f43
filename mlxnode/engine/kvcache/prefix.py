"""The prefix cache: what texts left in the KV cache, for requests that begin like them.

A request takes over the longest beginning that it shares with a text that runs, whose caches
are in the batch, or with an entry: a text that has ended, prompt and answer. Where room is
needed, the entry that was not used for the longest time goes, but first it is cut back to what
other texts shared of it: system prompts stay longest.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxnode.engine.decode.scheduler import MemoryBudget
from mlxnode.engine.kvcache.batch import Row, cut
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.entries import Entry, RunningText, Text

MAX_ENTRIES = 256  # every one is compared with every prompt, which takes microseconds
MIN_SHARED = 16  # tokens; less is not worth an entry of its own


class Known(NamedTuple):
    """What is known of a prompt's beginning, for a request to go on from."""

    row: Row
    length: int  # tokens in it
    logits: mx.array | None  # [1, V], where it is the whole prompt


class PrefixCache:
    """The entries of one model, within ``limit`` bytes and what the budget has left over.

    With a ``store``, they are on disk as well once ``save_next`` wrote them, and come back
    from there when a prompt begins like them.
    """

    def __init__(
        self, limit: Callable[[], int], budget: MemoryBudget, store: PrefixStore | None = None
    ):
        self._limit = limit
        self._budget = budget
        self._store = store
        self._entries: list[Entry] = []  # the one not used for the longest time first
        self._running: list[RunningText] = []
        budget.lenders.append(self.give_back)

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self._entries)

    @property
    def is_enabled(self) -> bool:
        return self._limit() > 0

    def find(self, prompt: Sequence[int]) -> Known | None:
        """What is known of the longest beginning of ``prompt``.

        The last token is part of it only if the logits behind it are known, too: otherwise it
        has to be processed to know what follows.
        """
        wanted = np.array(prompt, np.int32)
        best, length = _longest([*self._running, *self._entries], wanted)
        if (entry := self._recall(wanted, length)) is not None:
            best, length = _longest([entry], wanted)
        if best is None:
            return None
        if best in self._entries:
            self._entries.remove(best)
            self._entries.append(best)
        if length < len(wanted) - 1:
            best.num_shared = max(best.num_shared, length)
        logits = best.logits if length == len(wanted) else None
        return Known(best.take(length), length, logits)

    def begin(self, text: RunningText) -> None:
        """Let others begin like a text that runs, until it is given to ``end``."""
        self._running.append(text)

    def end(self, text: RunningText, tokens: Sequence[int], row: Row | None) -> None:
        """It runs no more; keep ``row``, the caches of all its ``tokens``, if there is one."""
        if text in self._running:
            self._running.remove(text)
        if row is not None:
            self.add(tokens, row, text)

    def forget_running(self) -> None:
        """Nothing runs any more."""
        self._running.clear()

    def add(self, tokens: Sequence[int], row: Row, text: Text | None = None) -> None:
        """Keep ``row``, the caches of ``tokens``; nothing may write to it from now on.

        ``text`` is what was known of it before.
        """
        entry = Entry(tokens, row)
        if text is not None:
            entry.num_shared = text.num_shared
            entry.learn(text.prompt_length, text.logits)
        self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        if not self.is_enabled or not len(entry.tokens) or entry.nbytes > self._limit():
            return
        for other in list(self._entries):
            common = other.num_common(entry.tokens)
            if common == len(entry.tokens) and other.can_be_cut:
                other.learn(entry.prompt_length, entry.logits)
                return  # known already
            if common == len(other.tokens) and entry.can_be_cut:
                entry.num_shared = max(entry.num_shared, other.num_shared)
                if entry.logits is None:
                    entry.learn(other.prompt_length, other.logits)
                self._entries.remove(other)  # the beginning of the new one
        self._entries.append(entry)
        while not self._fits() and self._entries:
            self._evict()

    @property
    def has_unsaved(self) -> bool:
        """Whether there are entries to write to disk."""
        return self._store is not None and any(not entry.is_saved for entry in self._entries)

    def save_next(self) -> None:
        """Write the last used of the entries that are not on disk."""
        entry = next(entry for entry in reversed(self._entries) if not entry.is_saved)
        entry.is_saved = True  # or found not to be worth it
        if len(entry.tokens) >= MIN_SHARED:
            self._store.save(entry)

    def _recall(self, wanted: np.ndarray, known: int) -> Entry | None:
        """Bring back what is on disk of a beginning, if that is more than what is known."""
        if self._store is None or not self.is_enabled:
            return None
        text, length = _longest(self._store.texts, wanted)
        if text is None or length < known + MIN_SHARED or text.nbytes > self._limit():
            return None
        row = self._store.load(text)
        if row is None:
            return self._recall(wanted, known)  # it is gone, the next best may not be
        entry = Entry(text.tokens, row, text.num_shared)
        entry.is_saved = True
        self._keep(entry)
        return entry

    def give_back(self, size: int) -> None:
        """Free at least ``size`` bytes, if there are so many."""
        target = max(self.nbytes - size, 0)
        while self.nbytes > target:
            self._evict()
        self._budget.claim(self, self.nbytes)

    def _fits(self) -> bool:
        """Claim the memory that there is need of, if that may be."""
        size = self.nbytes
        return (
            len(self._entries) <= MAX_ENTRIES
            and size <= self._limit()
            and self._budget.claim(self, size, borrows=False)
        )

    def _evict(self) -> None:
        entry = self._entries.pop(0)
        if MIN_SHARED <= entry.num_shared < len(entry.tokens) and entry.can_be_cut:
            row = cut(entry.row, entry.num_shared, is_copy=True)
            tokens = entry.tokens[: entry.num_shared]
            self._entries.append(Entry(tokens, row, entry.num_shared))


def _longest(texts: Iterable[Text], wanted: np.ndarray) -> tuple[Text | None, int]:
    """The text with the longest beginning of a prompt, and how many tokens that has."""
    best, length = None, 0
    for text in texts:
        common = text.num_common(wanted)
        if common == len(wanted) != text.prompt_length:
            common -= 1
        if common > length and (common == len(text.tokens) or text.can_be_cut):
            best, length = text, common
    return best, length
