"""The BPE of SentencePiece: tokens with scores, spaces written as a sign, bytes as tokens.

Of the merges that a text allows, SentencePiece takes the one whose token has the best score. So
all pairs of tokens that are a third token are merges, in the order of the scores of the third.
"""

from typing import Any

from mlxnode.errors import ModelError
from mlxnode.models.gguf.header import Metadata
from mlxnode.models.gguf.vocabulary import (
    BYTE,
    CONTROL,
    SCORES,
    TOKENS,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
    flag,
    special_id,
)

_SPACE = "▁"
_NUM_BYTES = 256
# Characters of all halves of all tokens; the 262,144 tokens of Gemma have 11 million. The bound
# is on the time: one token of a million characters would take minutes.
_MAX_CHARACTERS = 1 << 28
_NOT_MERGED = (UNKNOWN, CONTROL, USER_DEFINED, BYTE)


def tokenizer_of_pieces(metadata: Metadata, vocabulary: Vocabulary, by_score: bool) -> Any:
    """The ``tokenizers.Tokenizer``, without its special tokens.

    ``by_score`` is True if the scores give the merges, False if the file has a list of them.

    Raises:
        ModelError: the vocabulary has no scores, no tokens of bytes, or too long tokens.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    unknown = special_id(metadata, "unknown")
    if unknown is None and vocabulary.types.count(BYTE) < _NUM_BYTES:
        raise ModelError(f"{TOKENS} has neither {_NUM_BYTES} bytes nor an unknown token")
    has_prefix = flag(metadata, "add_space_prefix", default=by_score)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary.ids(),
            merges=_merges_of(vocabulary) if by_score else vocabulary.merges,
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    # Of each text between special tokens, as llama.cpp does.
    prefix = [normalizers.Prepend(_SPACE)] if has_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if has_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def _merges_of(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    if not vocabulary.scores:
        raise ModelError(f"the metadata lacks {SCORES!r}")
    if sum(len(token) ** 2 for token in vocabulary.tokens) > _MAX_CHARACTERS:
        raise ModelError(f"{TOKENS} has too long tokens to split them")
    pieces = [
        (token, score)
        for token, type_, score in zip(*vocabulary[:3], strict=True)
        if type_ not in _NOT_MERGED
    ]
    known = {token for token, _ in pieces}
    pieces.sort(key=lambda piece: -piece[1])
    return [
        (token[:at], token[at:])
        for token, _ in pieces
        for at in range(1, len(token))
        if token[:at] in known and token[at:] in known
    ]
