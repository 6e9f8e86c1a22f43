"""A tokenizer as llguidance takes it: the bytes of its tokens, and how it spells a text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper
from tokenizers import Tokenizer

from mlxnode.errors import panics_caught
from mlxnode.grammar import is_marker
from mlxnode.token_bytes import TokenBytes

# Without one of these decoders, the bytes of a token are not known.
_DECODERS = ("ByteLevel(", "ByteFallback(", "Metaspace(")


def load_vocabulary(file: Path, size: int, stop_ids: Sequence[int]) -> LLTokenizer:
    """The tokenizer of ``file``, a tokenizer.json, for a model with ``size`` logits.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no tokenizer, or one of an unknown kind.
    """
    try:
        with panics_caught():
            spelling = Spelling(file.read_text(encoding="utf-8"), size, stop_ids)
    except OSError:
        raise
    except Exception as error:  # tokenizers has no error class of its own
        raise ValueError(str(error)) from error
    tokenizer = LLTokenizer(TokenizerWrapper(spelling), eos_token=list(stop_ids))
    spelling.greedy = tokenizer
    return tokenizer


class Spelling:
    """The vocabulary in the form that llguidance takes, and the tokens of a forced text.

    Markers are no text: no text of a grammar matches them, and no forced text is spelled with
    them. llguidance's own loader would spell the text of a marker with the marker itself, which
    its masks then refuse.
    """

    bos_token_id = None

    def __init__(self, tokenizer_json: str, size: int, stop_ids: Sequence[int]):
        content = json.loads(tokenizer_json)
        added = content["added_tokens"]
        texts, markers = [], set(stop_ids)
        for token in added:
            if is_marker(token["content"], token["special"]):
                markers.add(token["id"])
            else:
                texts.append(token)
        self._tokenizer = _tokenizer_of({**content, "added_tokens": texts})
        if not any(kind in repr(self._tokenizer.decoder) for kind in _DECODERS):
            raise ValueError("the kind of its tokenizer is unknown")
        of_tokens = TokenBytes(self._tokenizer)
        self.tokens = [of_tokens.bytes_of(id) for id in range(size)]
        for token in added:
            if token["id"] < size:
                self.tokens[token["id"]] = token["content"].encode()
        self.special_token_ids = sorted(id for id in markers if id < size)
        self.eos_token_id = stop_ids[0]
        self.greedy: LLTokenizer | None = None  # set once it is built of this object
        self._markers = frozenset(markers)

    def __call__(self, text: bytes) -> list[int]:
        """The tokens that spell ``text``: the tokenizer's own choice where that is exact."""
        ids = self._tokenizer.encode(text.decode(), add_special_tokens=False).ids
        # A normalizer changes some texts, and some models of tokens find a marker's text.
        is_exact = self._markers.isdisjoint(ids) and self._text_of(ids) == text
        if is_exact or self.greedy is None:
            return ids
        return self.greedy.greedy_tokenize(text.decode())

    def _text_of(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.tokens[id] for id in ids if id < len(self.tokens))


def _tokenizer_of(content: dict[str, Any]) -> Tokenizer:
    """The tokenizer for a text in the middle of an answer."""
    for step in ("normalizer", "pre_tokenizer"):
        content[step] = _without_first_space(content[step])
    return Tokenizer.from_str(json.dumps(content))


def _without_first_space(step: Any) -> Any:
    """The normalizer or pre-tokenizer ``step``, without the space before the first word."""
    if step is None or step["type"] == "Prepend":
        return None
    step = dict(step)
    if "prepend_scheme" in step:
        step["prepend_scheme"] = "never"
    if "add_prefix_space" in step:
        step["add_prefix_space"] = False
    for name in ("normalizers", "pretokenizers"):
        if name in step:
            inner = map(_without_first_space, step[name])
            step[name] = [one for one in inner if one is not None]
    return step
