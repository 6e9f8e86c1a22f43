"""Small tokenizers of the kinds that models have, with added tokens of any text."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

EOS = "<eos>"
# What the vocabularies join: parts of JSON and of markers.
WORDS = ['{"', '":', '"}', "na", "name", "im", "_end", "<|", "|>", "to", "tool", " t", ' "']


def byte_level(markers: Mapping[str, bool]) -> Tokenizer:
    """As Qwen's: BPE over bytes, normalized, added tokens after the vocabulary."""
    tokenizer = _bpe([*sorted(pre_tokenizers.ByteLevel.alphabet())], _spaced("Ġ"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _with_added(tokenizer, markers)


def sentence_piece(markers: Mapping[str, bool]) -> Tokenizer:
    """As Llama 2's: BPE over characters, a space before the first word, bytes for the rest."""
    tokenizer = _bpe(
        [*_BYTES, *_CHARACTERS], _spaced("▁"), byte_fallback=True, unk_token="<0x00>"
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = _SPACES
    return _with_added(tokenizer, markers)


def metaspace(markers: Mapping[str, bool]) -> Tokenizer:
    """As Gemma's and Mistral's newer SentencePiece files: the space by a pre-tokenizer."""
    tokenizer = _bpe(
        [*_BYTES, *_CHARACTERS], _spaced("▁"), byte_fallback=True, unk_token="<0x00>"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = _SPACES
    return _with_added(tokenizer, markers)


def tekken(markers: Mapping[str, bool]) -> Tokenizer:
    """As Mistral's: the added tokens are the first of the vocabulary, whole words are found."""
    alphabet = [EOS, *markers, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = _bpe(alphabet, _spaced("Ġ"), ignore_merges=True)
    split = pre_tokenizers.Split(Regex(r"\s+|\S+"), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    return _with_added(tokenizer, markers)


def unigram(markers: Mapping[str, bool]) -> Tokenizer:
    """SentencePiece's other model, which finds the text of its own special pieces."""
    pieces = [(EOS, 0.0), *((marker, -1.0) for marker in markers)]
    pieces += [(piece, -3.0) for piece in _spaced("▁")]
    pieces += [(piece, -9.0) for piece in (*_CHARACTERS, *_BYTES)]
    unknown = len(pieces) - len(_BYTES)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = _SPACES
    return _with_added(tokenizer, markers)


KINDS: dict[str, Callable[[Mapping[str, bool]], Tokenizer]] = {
    kind.__name__: kind for kind in (byte_level, sentence_piece, metaspace, tekken, unigram)
}


def save(kind: str, markers: Mapping[str, bool], folder: Path) -> Tokenizer:
    """Save a tokenizer in ``folder``. ``markers``: its added tokens, True for special ones."""
    tokenizer = KINDS[kind](markers)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_CHARACTERS = ["▁", *map(chr, range(0x21, 0x7F))]
_SPACES = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
)


def _spaced(space: str) -> list[str]:
    return [word.replace(" ", space) for word in WORDS]


def _bpe(alphabet: Sequence[str], words: Sequence[str], **options) -> Tokenizer:
    """BPE whose merges build ``words`` from their first character on."""
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(alphabet))}
    merges = []
    for word in words:
        for end in range(1, len(word)):
            merge = (word[:end], word[end])
            if merge not in merges:
                merges.append(merge)
                vocabulary.setdefault(word[: end + 1], len(vocabulary))
    return Tokenizer(models.BPE(vocabulary, merges, **options))


def _with_added(tokenizer: Tokenizer, markers: Mapping[str, bool]) -> Tokenizer:
    tokenizer.add_special_tokens([EOS])
    for text, is_special in markers.items():
        token = AddedToken(text, special=is_special, normalized=False)
        (tokenizer.add_special_tokens if is_special else tokenizer.add_tokens)([token])
    return tokenizer
