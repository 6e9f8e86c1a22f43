"""The tokenizer of an embedding model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxnode.errors import ModelError
from mlxnode.models.sentence.config import SentenceConfig
from mlxnode.tokenizing import encode_all, shortened

_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


def load_fast_tokenizer(folder: Path) -> Any:
    """The tokenizer in ``folder``, of transformers, which never truncates and never pads.

    Raises:
        ModelError: the folder has no tokenizer, or one that cannot be loaded.
    """
    # Imported here: the import takes a second, and the engine needs only the settings.
    from transformers import AutoTokenizer

    if not any((folder / name).exists() for name in _VOCABULARIES):
        # transformers would make an empty tokenizer.
        raise ModelError(f"{folder}: no tokenizer (one of {', '.join(_VOCABULARIES)})")
    try:
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises a bare Exception for a broken file
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {error}") from error
    if not loaded.is_fast:
        raise ModelError(f"{folder}: only fast tokenizers (Rust ones) are supported")
    # tokenizer.json may hold truncation and padding, which would change the ids.
    loaded.backend_tokenizer.no_truncation()
    loaded.backend_tokenizer.no_padding()
    return loaded


@dataclass(frozen=True)
class Frame:
    """The special tokens that a tokenizer puts around each input, such as [CLS] and [SEP]."""

    start: list[int]
    end: list[int]

    def is_around(self, ids: list[int]) -> bool:
        """True if ``ids`` start and end with these tokens."""
        first = ids[: len(self.start)]
        return first == self.start and ids[len(ids) - len(self.end) :] == self.end

    def cut(self, ids: list[int], limit: int, *, start: bool = False) -> list[int]:
        """``ids`` of at most ``limit`` tokens, without their end or their start.

        The special tokens stay; ``limit`` leaves room for one token more than these.
        """
        if len(ids) <= limit:
            return ids
        if not self.is_around(ids):
            return ids[len(ids) - limit :] if start else ids[:limit]
        inner = ids[len(self.start) : len(ids) - len(self.end)]
        room = max(0, limit - len(self.start) - len(self.end))
        kept = inner[len(inner) - room :] if start else inner[:room]
        return [*self.start, *kept, *self.end]


class SentenceTokenizer:
    """Inputs to token ids, as in sentence-transformers, but never truncated.

    Several threads can call ``encode`` at the same time.
    """

    def __init__(self, folder: Path, config: SentenceConfig):
        """Load the tokenizer.

        Raises:
            ModelError: the folder has no tokenizer, or one that cannot be loaded.
        """
        # Imported here, as transformers is.
        from tokenizers.normalizers import Lowercase, Sequence

        self.backend: Any = load_fast_tokenizer(folder).backend_tokenizer
        if config.lowercase:
            normalizer = self.backend.normalizer
            steps = [Lowercase()] if normalizer is None else [Lowercase(), normalizer]
            self.backend.normalizer = Sequence(steps)
        self._config = config
        self.frame = self._frame()

    def encode(
        self, inputs: list[str], limit: int | None = None, *, start: bool = False
    ) -> Iterator[list[int]]:
        """Token ids of each input, with the default prompt and the special tokens.

        Of a text with more than ``limit`` tokens there are some more than these: the first
        ones or, with ``start``, the last ones.
        """
        return self._encode(self._config.default_prompt, inputs, limit, start)

    def encode_queries(self, queries: list[str], limit: int) -> Iterator[list[int]]:
        """The same for the queries of a search."""
        return self._encode(self._config.query_prompt, queries, limit)

    def encode_documents(self, documents: list[str], limit: int) -> Iterator[list[int]]:
        """The same for the documents of a search."""
        return self._encode(self._config.document_prompt, documents, limit)

    def _encode(
        self, prompt: str, texts: list[str], limit: int | None, start: bool = False
    ) -> Iterator[list[int]]:
        whole = [prompt + text for text in texts]
        if limit is not None:
            whole = [shortened(self.backend, text, limit, start=start) for text in whole]
        for encoding in encode_all(self.backend, whole, special=True):
            yield encoding.ids

    def _frame(self) -> Frame:
        encoding = self.backend.encode("a")
        inner = [at for at, mask in enumerate(encoding.special_tokens_mask) if not mask]
        start, end = (inner[0], inner[-1] + 1) if inner else (0, len(encoding.ids))
        return Frame(encoding.ids[:start], encoding.ids[end:])
