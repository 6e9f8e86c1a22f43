"""Reads arguments that have tags of their own, one by one."""

from collections.abc import Collection
from typing import Any

from mlxnode.server.notation.notation import TaggedArguments, ValueStyle
from mlxnode.server.parsing.arguments import RawText
from mlxnode.server.parsing.brackets import Misread
from mlxnode.server.parsing.call_syntax import CallSyntax, tokens_of
from mlxnode.server.parsing.source import Reading, TextSource
from mlxnode.server.parsing.values import read_value

_MAX_KEY = 256  # characters


class TaggedReader:
    """Reads the arguments of one call after the other."""

    def __init__(self, source: TextSource, syntax: CallSyntax, style: TaggedArguments):
        self._source = source
        self._style = style
        self._before_key = style.before_key.strip()
        tokens = tokens_of(style.before_value)
        others = tokens_of(style.before_other_value or style.before_value)
        self._before_value = list(zip(tokens, others, strict=True))
        self._after_value, *rest = tokens_of(style.after_value)
        separators = tokens_of(style.separator)
        self._between = [*rest, *separators]
        ends = [x for x in (*syntax.closers, *syntax.openers) if len(x) > 1]
        self._continuations = [self._before_key, *self._between, *ends]
        self._ends = [self._before_key, *syntax.closers]

    def read(self, names: Collection[str]) -> Reading[dict[str, Any]]:
        """The arguments up to what is none; a value without quotes is a ``RawText``.

        ``names`` are those of the parameters.

        Raises:
            Misread: a key or a value has no end, or a key comes twice.
        """
        source = self._source
        arguments: dict[str, Any] = {}
        while True:
            yield from source.skip_space()
            token = yield from source.next_of((self._before_key, *self._between))
            source.take(len(token))
            if token != self._before_key:
                if token:
                    continue
                return arguments
            key, is_other = yield from self._read_key()
            if key in arguments:
                raise Misread
            later = [name for name in names if name not in arguments and name != key]
            value = yield from self._read_value(later)
            arguments[key] = self._to_value(value, is_other)

    def _read_key(self) -> Reading[tuple[str, bool]]:
        """The key, and whether the value is written as one that is no string."""
        source = self._source
        key = yield from source.take_until(self._before_value[0][0], _MAX_KEY)
        if not key:
            raise Misread
        is_other = False
        for tokens in self._before_value:
            yield from source.skip_space()
            token = yield from source.next_of(tokens)
            if not token:
                raise Misread
            source.take(len(token))
            is_other = is_other or token != tokens[0]
        return key.strip(), is_other

    def _read_value(self, later: list[str]) -> Reading[str]:
        """The text up to an end tag after which the notation goes on.

        ``later``: the arguments that may follow. One of them shows that the end tag is
        missing.
        """
        source, end = self._source, self._after_value
        start = source.offset
        pieces: list[str] = []
        while True:
            piece = yield from source.take_until(end)
            if piece is None:
                return self._read_unclosed_value(start)
            pieces.append(piece)
            if (yield from source.follows(len(end), self._continuations)):
                value = "".join(pieces)
                missing = self._find_key(value, later)
                if missing >= 0 and source.go_back(start + missing):
                    return self._trimmed(value[:missing])
                source.take(len(end))
                return self._trimmed(value)
            pieces.append(source.take(len(end)))

    def _find_key(self, value: str, keys: list[str]) -> int:
        """The first place in ``value`` where the tag of one of ``keys`` stands; -1: none."""
        after = self._before_value[0][0]
        tags = [f"{self._before_key}{key}{after}" for key in keys]
        return min((at for tag in tags if (at := value.find(tag)) >= 0), default=-1)

    def _read_unclosed_value(self, start: int) -> str:
        """The text from ``start`` up to the next tag, where the value's own is missing."""
        source = self._source
        if source.is_cut or not source.go_back(start):
            raise Misread
        rest = source.text[source.at :]
        found = [at for end in self._ends if (at := rest.find(end)) >= 0]
        if not found:
            raise Misread
        return self._trimmed(source.take(min(found)))

    def _trimmed(self, text: str) -> str:
        """``text`` without the line breaks that belong to the tags around it."""
        if self._style.before_value.endswith("\n"):
            text = text.removeprefix("\n")
        if self._style.after_value.startswith("\n"):
            text = text.removesuffix("\n")
        return text

    def _to_value(self, text: str, is_other: bool) -> Any:
        if self._style.before_other_value is not None and not is_other:
            return text
        if self._style.style is ValueStyle.TEXT and not is_other:
            return RawText(text)
        try:
            return read_value(text)
        except (ValueError, RecursionError):
            return RawText(text)
