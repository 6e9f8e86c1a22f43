"""The tokenizer of an embedding model."""

from pathlib import Path
from typing import Any

from mlxnode.errors import ModelError
from mlxnode.models.sentence.config import SentenceConfig

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

    def encode(self, inputs: list[str]) -> list[list[int]]:
        """Token ids of each input, with the default prompt and the special tokens."""
        return self._encode(self._config.default_prompt, inputs)

    def encode_queries(self, queries: list[str], max_length: int) -> list[list[int]]:
        """The same for the queries of a search, each cut to at most ``max_length`` tokens."""
        return self._encode_cut(self._config.query_prompt, queries, max_length)

    def encode_documents(self, documents: list[str], max_length: int) -> list[list[int]]:
        """The same for the documents of a search."""
        return self._encode_cut(self._config.document_prompt, documents, max_length)

    def _encode_cut(self, prompt: str, texts: list[str], max_length: int) -> list[list[int]]:
        encoded = self._encode(prompt, texts)
        room = max(max_length - self.backend.num_special_tokens_to_add(False), 0)
        for index, ids in enumerate(encoded):
            if len(ids) > max_length:
                [encoding] = self.backend.encode_batch(
                    [prompt + texts[index]], add_special_tokens=False
                )
                encoding.truncate(room)
                encoded[index] = self.backend.post_process(encoding).ids
        return encoded

    def _encode(self, prompt: str, texts: list[str]) -> list[list[int]]:
        encodings = self.backend.encode_batch([prompt + text for text in texts])
        return [encoding.ids for encoding in encodings]
