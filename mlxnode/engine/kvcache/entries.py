"""Texts whose keys and values are somewhere, for others to begin like them."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxnode.engine.kvcache.batch import Row, can_be_cut, cut


class Text:
    """Tokens, [L] int32, whose caches are known."""

    def __init__(self, tokens: Sequence[int], *, can_be_cut: bool = True, num_shared: int = 0):
        self.tokens = np.array(tokens, np.int32)
        self.can_be_cut = can_be_cut  # otherwise all of it can be taken, or nothing
        self.num_shared = num_shared  # as many of them another text began with, too
        self.prompt_length = 0  # of the last prompt that the text began with
        self.logits: mx.array | None = None  # [1, V], of the token behind that prompt

    def learn(self, prompt_length: int, logits: mx.array | None) -> None:
        """Take the logits behind a prompt that the text begins with, if they are known."""
        if logits is not None:
            self.prompt_length, self.logits = prompt_length, logits

    def num_common(self, tokens: np.ndarray) -> int:
        """How many tokens the two texts have in common from the beginning."""
        length = min(len(self.tokens), len(tokens))
        differs = self.tokens[:length] != tokens[:length]
        return int(differs.argmax()) if differs.any() else length


class RunningText(Text):
    """A prompt in the batch, with the logits of the token that follows, [1, V].

    ``take`` gives the caches of the first so many tokens.
    """

    def __init__(
        self, prompt: Sequence[int], take: Callable[[int], Row], logits: mx.array | None
    ):
        super().__init__(prompt)
        self.take = take
        self.learn(len(prompt), logits)


class Entry(Text):
    """A text that has ended; ``row``, its caches, is never written to."""

    def __init__(self, tokens: Sequence[int], row: Row, num_shared: int = 0):
        super().__init__(tokens, can_be_cut=can_be_cut(row), num_shared=num_shared)
        self.row = row
        self.is_saved = False  # on disk, where there is a place for it

    @property
    def nbytes(self) -> int:
        size = sum(layer.nbytes for layer in self.row)
        return size if self.logits is None else size + self.logits.nbytes

    def take(self, length: int) -> Row:
        """Caches of the first so many tokens, to go on from."""
        return cut(self.row, length) if self.can_be_cut else copy.deepcopy(self.row)


class StoredText(Text):
    """A text on disk, with the size of its file in bytes."""

    def __init__(self, tokens: Sequence[int], file: Path, *, can_be_cut: bool, num_shared: int):
        super().__init__(tokens, can_be_cut=can_be_cut, num_shared=num_shared)
        self.file = file
        self.nbytes = file.stat().st_size
