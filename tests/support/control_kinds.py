"""Small tokenizers of the kinds that model families have, with control tokens of their own."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

_TEXT = "user assistant system the im_end im_start think tool_call name arguments value"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _merges(vocabulary: dict[str, int], words: list[str]) -> list[tuple[str, str]]:
    """Merges that build ``words`` from the left; their results join ``vocabulary``."""
    merges: list[tuple[str, str]] = []
    for word in words:
        for end in range(2, len(word) + 1):
            merge = (word[: end - 1], word[end - 1])
            if merge not in merges:
                merges.append(merge)
                vocabulary.setdefault(word[:end], len(vocabulary))
    return merges


def _byte_level(controls: Sequence[str]) -> Tokenizer:
    """As GPT-2's and Qwen's."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = _merges(vocabulary, _TEXT.split())
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _tekken(controls: Sequence[str]) -> Tokenizer:
    """As Mistral's: a text that is in the vocabulary is one token, control tokens too."""
    vocabulary = {text: i for i, text in enumerate(controls)}
    for c in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[c] = len(vocabulary)
    merges = _merges(vocabulary, _TEXT.split())
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pieces(controls: Sequence[str]) -> dict[str, int]:
    """The vocabulary of SentencePiece: bytes, control tokens and pieces."""
    texts = ["<unk>", *controls, *_BYTES, *sorted(set(_TEXT) - {" "}), "\u2581", *"<>|/[]"]
    return {text: i for i, text in enumerate(dict.fromkeys(texts))}


def _sentence_piece(controls: Sequence[str]) -> Tokenizer:
    """As Llama 2's: a space before each text between control tokens."""
    vocabulary = _pieces(controls)
    words = [f"\u2581{word}" for word in _TEXT.split()]
    merges = _merges(vocabulary, words)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def _metaspace(controls: Sequence[str]) -> Tokenizer:
    """As newer SentencePiece models: a space before the first text only."""
    tokenizer = _sentence_piece(controls)
    tokenizer.normalizer = None  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


def _unigram(controls: Sequence[str]) -> Tokenizer:
    """As llm-jp's: control tokens are pieces of the best score, and NFKC writes others."""
    vocabulary = _pieces(controls)
    scores = [0.0 if text in controls else -5.0 for text in vocabulary]
    tokenizer = Tokenizer(
        models.Unigram(list(zip(vocabulary, scores, strict=True)), unk_id=0, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


KINDS = {
    "byte level": _byte_level,
    "tekken": _tekken,
    "sentence piece": _sentence_piece,
    "metaspace": _metaspace,
    "unigram": _unigram,
}


def make_tokenizer(folder: Path, kind: str, controls: Sequence[str], template: str) -> None:
    """A tokenizer of ``kind`` with ``controls``; names in ``<…>`` are not special, as Qwen's.

    Two runs of spaces and ``<h1>`` are added tokens that mean nothing.
    """
    tokenizer = KINDS[kind](controls)
    tokenizer.add_tokens(
        [
            AddedToken(text, normalized=False, special=not text.strip("</>").isidentifier())
            for text in controls
        ]
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("  ", "    ", "<h1>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def as_decoded(kind: str, text: str) -> str:
    """``text`` without what a tokenizer of ``kind`` does not keep of it."""
    if kind == "byte level":
        return unicodedata.normalize("NFC", text)
    if kind == "tekken":
        return text
    return unicodedata.normalize("NFKC", text).replace(" ", "")
