"""The prefix cache: what texts left in the KV cache, for requests that begin like them.

A request takes over the longest beginning that it shares with a text that runs, whose caches
are in the batch, or with an entry: a text that has ended, prompt and answer. Where room is
needed, the entry that was not used for the longest time goes, but first it is cut back to what
other texts shared of it: system prompts stay longest.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxnode.engine.cache import Row, can_be_cut, cut
from mlxnode.engine.scheduler import MemoryBudget

MAX_ENTRIES = 256  # every one is compared with every prompt, which takes microseconds
MIN_SHARED = 16  # tokens; less is not worth an entry of its own


@dataclass(eq=False)
class Text:
    """Tokens whose caches are somewhere: ``take`` gives those of the first so many."""

    tokens: np.ndarray  # [L] int32
    take: Callable[[int], Row]
    can_be_cut: bool = True  # otherwise all of it can be taken, or nothing
    num_shared: int = 0  # as many of them another text began with, too
    prompt_length: int = 0  # of the last prompt that the text began with
    logits: mx.array | None = None  # [1, V], of the token behind that prompt

    @classmethod
    def of_prompt(
        cls, prompt: Sequence[int], take: Callable[[int], Row], logits: mx.array
    ) -> "Text":
        """A whole prompt, with the logits of the token that follows, [1, V]."""
        tokens = np.array(prompt, np.int32)
        return cls(tokens, take, prompt_length=len(tokens), logits=logits)

    def learn(self, prompt_length: int, logits: mx.array | None) -> None:
        """Take the logits behind a prompt that the text begins with, if they are known."""
        if logits is not None:
            self.prompt_length, self.logits = prompt_length, logits

    def num_common(self, tokens: np.ndarray) -> int:
        """How many tokens the two texts have in common from the beginning."""
        length = min(len(self.tokens), len(tokens))
        differs = self.tokens[:length] != tokens[:length]
        return int(differs.argmax()) if differs.any() else length


class Entry(Text):
    """A text that has ended; ``row``, its caches, is never written to."""

    def __init__(self, tokens: Sequence[int], row: Row, num_shared: int = 0):
        super().__init__(np.array(tokens, np.int32), self._copy, can_be_cut(row), num_shared)
        self.row = row

    @property
    def nbytes(self) -> int:
        size = sum(layer.nbytes for layer in self.row)
        return size if self.logits is None else size + self.logits.nbytes

    def _copy(self, length: int) -> Row:
        return cut(self.row, length) if self.can_be_cut else copy.deepcopy(self.row)


class Known(NamedTuple):
    """What is known of a prompt's beginning, for a request to go on from."""

    row: Row
    length: int  # tokens in it
    logits: mx.array | None  # [1, V], where it is the whole prompt


class PrefixCache:
    """The entries of one model, within ``limit`` bytes and what the budget has left over."""

    def __init__(self, limit: Callable[[], int], budget: MemoryBudget):
        self._limit = limit
        self._budget = budget
        self._entries: list[Entry] = []  # the one not used for the longest time first
        self._running: list[Text] = []
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
        best, length = None, 0
        for text in (*self._running, *self._entries):
            common = text.num_common(wanted)
            if common == len(wanted) != text.prompt_length:
                common -= 1
            if common > length and (common == len(text.tokens) or text.can_be_cut):
                best, length = text, common
        if best is None:
            return None
        if isinstance(best, Entry):
            self._entries.remove(best)
            self._entries.append(best)
        if length < len(wanted) - 1:
            best.num_shared = max(best.num_shared, length)
        logits = best.logits if length == len(wanted) else None
        return Known(best.take(length), length, logits)

    def begin(self, text: Text) -> None:
        """Let others begin like a text that runs, until it is given to ``end``."""
        self._running.append(text)

    def end(self, text: Text, tokens: Sequence[int], row: Row | None) -> None:
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
        if not self.is_enabled or not len(tokens) or entry.nbytes > self._limit():
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
