"""The tokenizer of an embedding model."""

from dataclasses import dataclass
from pathlib import Path

from mlxnode.errors import ModelError
from mlxnode.models.sentence.config import SentenceConfig

_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


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
        # Imported here: the import takes a second, and the engine needs only the settings.
        from tokenizers.normalizers import Lowercase, Sequence
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
        self._tokenizer = loaded.backend_tokenizer
        # tokenizer.json may hold truncation and padding, which would change the ids.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if config.lowercase:
            normalizer = self._tokenizer.normalizer
            steps = [Lowercase()] if normalizer is None else [Lowercase(), normalizer]
            self._tokenizer.normalizer = Sequence(steps)
        self._prompt = config.default_prompt
        self.frame = self._frame()

    def encode(self, inputs: list[str]) -> list[list[int]]:
        """Token ids of each input, with the default prompt and the special tokens."""
        encodings = self._tokenizer.encode_batch([self._prompt + text for text in inputs])
        return [encoding.ids for encoding in encodings]

    def _frame(self) -> Frame:
        encoding = self._tokenizer.encode("a")
        inner = [at for at, mask in enumerate(encoding.special_tokens_mask) if not mask]
        start, end = (inner[0], inner[-1] + 1) if inner else (0, len(encoding.ids))
        return Frame(encoding.ids[:start], encoding.ids[end:])
