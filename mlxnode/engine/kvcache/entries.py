"""Token sequences whose KV cache other requests can reuse as a prefix."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxnode.engine.kvcache.prompt_cache import (
    PromptCache,
    SequenceCache,
    flat_layers,
    trim_in_place,
    trimmed,
)
from mlxnode.engine.kvcache.snapshot import Elsewhere, Snapshot, Span, continued

Tokens = Sequence[int] | np.ndarray

_BLOCK = 256  # tokens; most sequences differ within the first ones


class PrefixEntry:
    """A token sequence, [L] int32, and what is known about its use as a prefix."""

    def __init__(self, tokens: Tokens, *, is_trimmable: bool = True, num_shared: int = 0):
        self.tokens = np.array(tokens, np.int32)
        self.is_trimmable = is_trimmable  # False: the cache serves the lengths of snapshots
        self.num_shared = num_shared  # first tokens that another sequence also started with
        self.prompt_length = 0  # of the last prompt whose logits are known
        self.logits: mx.array | None = None  # [1, V], of the token after that prompt

    @property
    def spans(self) -> Sequence[Span]:
        """The lengths that the snapshots of the sequence serve, in ascending order."""
        return ()

    def remember(self, prompt_length: int, logits: mx.array | None) -> None:
        """Keep the logits after a prompt that the sequence starts with, if they are known."""
        if logits is not None:
            self.prompt_length, self.logits = prompt_length, logits

    def num_common(self, tokens: np.ndarray) -> int:
        """The length of the common prefix of the two sequences."""
        length = min(len(self.tokens), len(tokens))
        for start, stop in ((0, min(_BLOCK, length)), (_BLOCK, length)):
            differs = self.tokens[start:stop] != tokens[start:stop]
            if differs.any():
                return start + int(differs.argmax())
        return length

    def usable(self, common: int) -> int:
        """The longest length up to ``common`` that a request can continue from."""
        if self.is_trimmable:
            return common
        served = [min(span.length, common) for span in self.spans if span.shortest <= common]
        return max(served, default=0)


class LoadableEntry(PrefixEntry, ABC):
    """An entry whose KV cache is in memory."""

    def __init__(self, tokens: Tokens, *, is_trimmable: bool = True, num_shared: int = 0):
        super().__init__(tokens, is_trimmable=is_trimmable, num_shared=num_shared)
        self.snapshots: list[Snapshot] = []  # ascending; ``SnapshotPool`` changes them

    @property
    def spans(self) -> Sequence[Span]:
        return self.snapshots

    def load(self, length: int) -> PromptCache:
        """The cache of the first ``length`` tokens, for a request to continue from."""
        plain = self._plain(length)
        if self.is_trimmable:
            return plain
        snapshot = next(s for s in self.snapshots if s.shortest <= length <= s.length)
        return continued(plain, snapshot, length)

    @abstractmethod
    def _plain(self, length: int) -> PromptCache:
        """The layers that can be cut, of the first ``length`` tokens."""


class RunningEntry(LoadableEntry):
    """The prompt of a running request. ``copy`` copies the layers that can be cut.

    ``is_complete``: False until the whole prompt is in the cache; nobody can load it before.
    """

    def __init__(
        self,
        prompt: Tokens,
        copy: Callable[[int], PromptCache],
        *,
        is_trimmable: bool = True,
        is_complete: bool = True,
    ):
        super().__init__(prompt, is_trimmable=is_trimmable)
        self.is_complete = is_complete
        self._copy = copy

    def _plain(self, length: int) -> PromptCache:
        return self._copy(length)


class FinishedEntry(LoadableEntry):
    """A finished sequence, prompt and answer. Nothing ever writes to its ``cache``.

    Layers that cannot be cut are ``Elsewhere`` in it.
    """

    def __init__(self, tokens: Tokens, cache: SequenceCache, num_shared: int = 0):
        is_trimmable = not any(isinstance(leaf, Elsewhere) for leaf in flat_layers(cache))
        super().__init__(tokens, is_trimmable=is_trimmable, num_shared=num_shared)
        self.cache = cache
        self.is_saved = False  # on disk, or not worth to be saved
        sizes = [layer.nbytes for layer in cache]
        self.largest_layer: int = max(sizes, default=0)  # a cut needs it twice for a moment
        self._nbytes: int = sum(sizes)

    @property
    def nbytes(self) -> int:
        """The bytes without those of the snapshots."""
        return self._nbytes if self.logits is None else self._nbytes + self.logits.nbytes

    def _plain(self, length: int) -> PromptCache:
        # A part of an array would keep the whole array in memory after an eviction.
        return trimmed(self.cache, length, copy=length < len(self.tokens))

    def cut(self, length: int) -> "FinishedEntry":
        """An entry of the first ``length`` tokens alone, without snapshots, for this one."""
        cache, self.cache = self.cache, SequenceCache()
        return FinishedEntry(self.tokens[:length], trim_in_place(cache, length), length)


class DiskEntry(PrefixEntry):
    """A sequence whose KV cache is in a file of ``nbytes``, ``snapshot_bytes`` of them."""

    def __init__(
        self,
        tokens: Tokens,
        file: Path,
        *,
        is_trimmable: bool,
        num_shared: int,
        spans: Sequence[Span] = (),
        snapshot_bytes: int = 0,
    ):
        super().__init__(tokens, is_trimmable=is_trimmable, num_shared=num_shared)
        self.file = file
        self.nbytes = file.stat().st_size
        self.snapshot_bytes = snapshot_bytes
        self._spans = spans

    @property
    def spans(self) -> Sequence[Span]:
        return self._spans
