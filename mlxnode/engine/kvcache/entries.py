"""Token sequences whose KV cache other requests can reuse as a prefix."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxnode.engine.kvcache.prompt_cache import (
    PromptCache,
    is_trimmable,
    trim_in_place,
    trimmed,
)

Tokens = Sequence[int] | np.ndarray


class PrefixEntry:
    """A token sequence, [L] int32, and what is known about its use as a prefix."""

    def __init__(self, tokens: Tokens, *, is_trimmable: bool = True, num_shared: int = 0):
        self.tokens = np.array(tokens, np.int32)
        self.is_trimmable = is_trimmable  # False: the cache serves the whole sequence only
        self.num_shared = num_shared  # first tokens that another sequence also started with
        self.prompt_length = 0  # of the last prompt whose logits are known
        self.logits: mx.array | None = None  # [1, V], of the token after that prompt

    def remember(self, prompt_length: int, logits: mx.array | None) -> None:
        """Keep the logits after a prompt that the sequence starts with, if they are known."""
        if logits is not None:
            self.prompt_length, self.logits = prompt_length, logits

    def num_common(self, tokens: np.ndarray) -> int:
        """The length of the common prefix of the two sequences."""
        length = min(len(self.tokens), len(tokens))
        differs = self.tokens[:length] != tokens[:length]
        return int(differs.argmax()) if differs.any() else length


class LoadableEntry(PrefixEntry, ABC):
    """An entry whose KV cache is in memory."""

    @abstractmethod
    def load(self, length: int) -> PromptCache:
        """The cache of the first ``length`` tokens, for a request to continue from."""


class RunningEntry(LoadableEntry):
    """The prompt of a running request. ``copy`` copies the cache of the first tokens."""

    def __init__(self, prompt: Tokens, copy: Callable[[int], PromptCache]):
        super().__init__(prompt)
        self._copy = copy

    def load(self, length: int) -> PromptCache:
        return self._copy(length)


class FinishedEntry(LoadableEntry):
    """A finished sequence, prompt and answer. Nothing ever writes to its ``cache``."""

    def __init__(self, tokens: Tokens, cache: PromptCache, num_shared: int = 0):
        super().__init__(tokens, is_trimmable=is_trimmable(cache), num_shared=num_shared)
        self.cache = cache
        self.is_saved = False  # on disk, or not worth to be saved

    @property
    def nbytes(self) -> int:
        size = sum(layer.nbytes for layer in self.cache)
        return size if self.logits is None else size + self.logits.nbytes

    @property
    def largest_layer(self) -> int:
        """The bytes that a cut of the cache needs for a moment."""
        return max((layer.nbytes for layer in self.cache), default=0)

    def load(self, length: int) -> PromptCache:
        if not self.is_trimmable:
            return copy.deepcopy(self.cache)
        # A part of an array would keep the whole array in memory after an eviction.
        return trimmed(self.cache, length, copy=length < len(self.tokens))

    def cut(self, length: int) -> "FinishedEntry":
        """An entry of the first ``length`` tokens alone, in place of this one."""
        cache, self.cache = list(self.cache), []
        return FinishedEntry(self.tokens[:length], trim_in_place(cache, length), length)


class DiskEntry(PrefixEntry):
    """A sequence whose KV cache is in a file of ``nbytes``."""

    def __init__(self, tokens: Tokens, file: Path, *, is_trimmable: bool, num_shared: int):
        super().__init__(tokens, is_trimmable=is_trimmable, num_shared=num_shared)
        self.file = file
        self.nbytes = file.stat().st_size
