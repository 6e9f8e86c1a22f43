"""Encodes the text of a prompt, in which the text of the request may be quoted."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from mlxnode.server.prompt.context_length import TooLong
from mlxnode.server.prompt.plain_tokenizer import PlainTokenizer, PlainTokenizers
from mlxnode.server.prompt.quoting import escaped
from mlxnode.tokenizing import least_tokens


class EncodedText(Protocol):
    """The tokens of a text, and where in the text they are. The tokenizers package has it."""

    @property
    def ids(self) -> list[int]: ...

    def char_to_token(self, char_pos: int, /) -> int | None: ...

    def token_to_chars(self, token_index: int, /) -> tuple[int, int] | None: ...


class _Part(NamedTuple):
    """Characters of a text, and what is encoded for them."""

    start: int
    end: int
    encoded: str


class QuotedText:
    """The tokens of a text with sentinels, which have none."""

    def __init__(self, parts: list[_Part], encoding: Any, ids: list[int]):
        """``encoding``: of the texts of ``parts``, joined, but for its ids."""
        self.ids = ids
        self._encoding = encoding
        self._parts = parts
        self._starts: list[int] = []  # of the parts in the encoded text
        length = 0
        for part in parts:
            self._starts.append(length)
            length += len(part.encoded)
        self._ends = [*self._starts[1:], length]

    def char_to_token(self, char_pos: int, /) -> int | None:
        """The token of a character; for a sentinel, that of the character before it."""
        index = bisect_right(self._parts, char_pos, key=lambda part: part.start) - 1
        if index < 0:
            return None
        part = self._parts[index]
        offset = min(char_pos - part.start, len(part.encoded) - 1)
        return self._encoding.char_to_token(self._starts[index] + offset)

    def token_to_chars(self, token_index: int, /) -> tuple[int, int] | None:
        """The first character of a token, and the one after its last character."""
        span = self._encoding.token_to_chars(token_index)
        if span is None or not self._parts:
            return None
        start, end = span
        first = bisect_right(self._starts, start) - 1
        last = min(bisect_left(self._ends, end), len(self._parts) - 1)
        before, after = self._parts[first], self._parts[last]
        return before.start + start - self._starts[first], after.end - self._ends[last] + end


class PromptEncoder:
    """Encodes the prompts of one model. Safe to call from several threads."""

    def __init__(self, tokenizer: Any, controls: Mapping[int, str]):
        self._tokenizer = tokenizer
        self._controls = controls
        self._plain = PlainTokenizers(tokenizer, controls)

    def encode(
        self, text: str, sentinel: str | None = None, limit: int | None = None
    ) -> EncodedText:
        """The tokens of ``text``, without special tokens before and after it.

        With ``sentinel``, the tokens are those of the text without it, but that only what
        would be a control token beside the sentinels becomes one.

        Raises:
            TooLong: there are more than ``limit`` tokens; a long text is not read to its end.
        """
        if limit is not None:
            self._check(text, sentinel, limit)
        # Unlike ``encode``, ``encode_batch`` releases the GIL, so that streams go on.
        [encoding] = self._tokenizer.encode_batch([text], add_special_tokens=False)
        if sentinel is None:
            _check_number(encoding, limit)
            return encoding
        plain = self._plain.shared()
        parts = list(self._split(text, encoding, sentinel, plain.names))
        quoted = _encoded(parts, plain, limit)
        names = set(plain.names.values())
        num_controls = sum(part.encoded in names for part in parts)
        if sum(id in self._controls for id in quoted.ids) > num_controls:
            # The model has formed control tokens of their pieces.
            quoted = _encoded(parts, self._plain.renamed(), limit)
        return quoted

    def _check(self, text: str, sentinel: str | None, limit: int) -> None:
        """Raises TooLong for a text whose beginning has too many tokens already."""
        if sentinel is not None:  # which has no token in the prompt
            text = text.replace(sentinel, "").replace(escaped(sentinel), "")
        if (number := least_tokens(self._tokenizer, text, limit)) is not None:
            raise TooLong(f"at least {number} tokens")

    def _split(
        self, text: str, encoding: Any, sentinel: str, names: Mapping[int, str]
    ) -> Iterator[_Part]:
        """The control tokens that ``encoding`` has, and the texts between them."""
        at = 0
        # Not from the list of all offsets: it takes long to make.
        for index, id in enumerate(encoding.ids):
            if id not in self._controls:
                continue
            start, end = encoding.token_to_chars(index)
            # Some tokens take the white space beside them.
            start = end - len(text[start:end].lstrip())
            end = start + len(text[start:end].rstrip())
            if text[start:end] == self._controls[id]:  # not what a normalizer made equal
                yield from _unquoted(text, at, start, sentinel)
                yield _Part(start, end, names[id])
                at = end
        yield from _unquoted(text, at, len(text), sentinel)


def _check_number(encoding: Any, limit: int | None) -> None:
    """Raises TooLong for more than ``limit`` tokens, before a list of them is made."""
    if limit is not None and len(encoding) > limit:
        raise TooLong(f"{len(encoding)} tokens")


def _encoded(parts: list[_Part], plain: PlainTokenizer, limit: int | None) -> QuotedText:
    text = "".join(part.encoded for part in parts)
    [encoding] = plain.tokenizer.encode_batch([text], add_special_tokens=False)
    _check_number(encoding, limit)
    return QuotedText(parts, encoding, [plain.ids.get(id, id) for id in encoding.ids])


def _unquoted(text: str, start: int, end: int, sentinel: str) -> Iterator[_Part]:
    """The parts of ``text`` from ``start`` to ``end`` that are not the sentinel."""
    pattern = re.compile(f"{sentinel}|{re.escape(escaped(sentinel))}")
    for found in pattern.finditer(text, start, end):
        if found.start() > start:
            yield _Part(start, found.start(), text[start : found.start()])
        start = found.end()
    if start < end:
        yield _Part(start, end, text[start:end])
