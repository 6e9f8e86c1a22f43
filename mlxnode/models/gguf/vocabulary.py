"""The vocabulary of a GGUF file: its tokens, their types and scores, and the special tokens.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#ggml. The metadata is foreign
data; whatever it says is checked here, and an error names its key.
"""

import math
from typing import Any, NamedTuple

from mlxnode.errors import ModelError
from mlxnode.models.gguf.header import Metadata

# tokenizer.ggml.token_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6

MODEL = "tokenizer.ggml.model"
PRE = "tokenizer.ggml.pre"
TOKENS = "tokenizer.ggml.tokens"
TYPES = "tokenizer.ggml.token_type"
SCORES = "tokenizer.ggml.scores"
MERGES = "tokenizer.ggml.merges"

# The ids that SentencePiece gives them; a file of model "llama" need not name them.
_SENTENCE_PIECE_IDS = {"unknown": 0, "bos": 1, "eos": 2}

# Texts of the tokens that end a turn, a message or a document. Many files name only one of the
# tokens that end an answer, and some files give them the type of a word.
_ENDS = frozenset(
    (
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<end_of_turn>",
        "<turn|>",
        "<EOT>",
        "<end_of_utterance>",
    )
)
# A message of gpt-oss ends with <|end|>, and its answer goes on with the next message.
_HARMONY = frozenset(("<|return|>", "<|call|>"))
_END_OF_MESSAGE = "<|end|>"


class Vocabulary(NamedTuple):
    """``tokens``, ``types`` and ``scores`` have one entry for each id."""

    tokens: list[str]
    types: list[int]
    scores: list[float]  # empty if the file has none
    merges: list[tuple[str, str]]  # empty if the file has none

    @property
    def is_of_bytes(self) -> bool:
        """True if each token that a text can have is one character: nothing is merged."""
        return all(
            len(token) == 1
            for token, kind in zip(self.tokens, self.types, strict=True)
            if kind == NORMAL
        )

    def ids(self) -> dict[str, int]:
        """The id of each token."""
        return {token: i for i, token in enumerate(self.tokens)}


def vocabulary_of(metadata: Metadata) -> Vocabulary:
    """The vocabulary that the metadata describes.

    Raises:
        KeyError: there are no tokens.
        ModelError: a list is damaged, or lists do not fit together.
    """
    tokens = _list_of(metadata, TOKENS, str)
    if not tokens:
        raise ModelError(f"{TOKENS} is empty")
    # A converter writes an empty token where the vocabulary has a gap.
    tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)]
    known = set(tokens)
    if len(known) < len(tokens):
        raise ModelError(f"{TOKENS} has {_first_twice(tokens)!r} twice")
    types = _aligned(metadata, TYPES, int, len(tokens)) or [NORMAL] * len(tokens)
    scores = [float(score) for score in _aligned(metadata, SCORES, (float, int), len(tokens))]
    if any(map(math.isnan, scores)):
        raise ModelError(f"{SCORES} has a score that is no number")
    types = [
        CONTROL if token in _ENDS else type_ for token, type_ in zip(tokens, types, strict=True)
    ]
    return Vocabulary(tokens, types, scores, _merges_of(metadata, known))


def special_id(metadata: Metadata, name: str) -> int | None:
    """The id of the token of ``name`` (bos, eos, eot, eom, unknown, padding), if it has one.

    Raises:
        ModelError: the vocabulary has no such id.
    """
    key = f"tokenizer.ggml.{name}_token_id"
    defaults = _SENTENCE_PIECE_IDS if metadata.get(MODEL) == "llama" else {}
    if key not in metadata and name not in defaults:
        return None
    value, size = metadata.get(key, defaults.get(name)), len(metadata[TOKENS])
    if not _is(value, int) or not 0 <= value < size:
        raise ModelError(f"{key} must be from 0 to {size - 1}, got {value!r}")
    return value


def end_ids(metadata: Metadata) -> list[int]:
    """The ids of the tokens that end an answer, in order.

    Raises:
        ModelError: the vocabulary has no such id.
    """
    named = (special_id(metadata, name) for name in ("eos", "eot", "eom"))
    ids = {id_ for id_ in named if id_ is not None}
    ends = {token: i for i, token in enumerate(metadata[TOKENS]) if token in _ENDS}
    ids.update(ends.values())
    if ends.keys() >= _HARMONY:
        ids.discard(ends.get(_END_OF_MESSAGE, -1))
    return sorted(ids)


def flag(metadata: Metadata, name: str, default: bool) -> bool:
    """The switch ``tokenizer.ggml.<name>``.

    Raises:
        ModelError: the value is neither true nor false.
    """
    value = metadata.get(key := f"tokenizer.ggml.{name}", default)
    if not isinstance(value, bool):
        raise ModelError(f"{key} must be true or false, got {value!r}")
    return value


def _merges_of(metadata: Metadata, known: set[str]) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    for text in _list_of(metadata, MERGES, str) if MERGES in metadata else ():
        at = text.find(" ", 1)  # from 1: the first token can begin with a space
        left, right = text[:at], text[at + 1 :]
        if at < 1 or not {left, right, left + right} <= known:
            raise ModelError(
                f"{MERGES} has {_short(text)}, which does not merge two tokens to a third"
            )
        merges.append((left, right))
    return merges


def _aligned(metadata: Metadata, key: str, kind: Any, size: int) -> list[Any]:
    """The list at ``key``, of one entry for each token; empty if there is none."""
    if key not in metadata:
        return []
    values = _list_of(metadata, key, kind)
    if len(values) != size:
        raise ModelError(f"{key} has {len(values)} entries for {size} tokens")
    return values


def _list_of(metadata: Metadata, key: str, kind: Any) -> list[Any]:
    values = metadata[key]
    if not isinstance(values, list):
        raise ModelError(f"{key} must be a list, got {_short(values)}")
    for value in values:
        if not _is(value, kind):
            raise ModelError(f"{key} has an entry of the wrong type: {_short(value)}")
    return values


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _first_twice(tokens: list[str]) -> str:
    seen: set[str] = set()
    for token in tokens:
        if token in seen:
            return token[:80]
        seen.add(token)
    return ""


def _short(value: Any) -> str:
    return repr(value if not isinstance(value, str) else value[:80])[:100]
