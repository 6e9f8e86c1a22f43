"""Reads values that are nearly JSON: as Python, JavaScript or Gemma write them, and JSON.

Single quotes, raw control characters in strings, commas before a closing bracket, keys without
quotes and the constants of Python have one meaning only, so they are read. Nothing is guessed:
a text with a bracket, a comma or a quote too few is no value.
"""

import json
import math
import re
from typing import Any, NoReturn

from mlxnode.server.notation.notation import GEMMA_QUOTE
from mlxnode.server.parsing.brackets import MAX_DEPTH

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,399})(?:\.\d{1,400})?(?:[eE][+-]?\d{1,4})?(?![\w.])")
_WORD = re.compile(r"[A-Za-z_$][\w.$-]*")
_CHUNK = {quote: re.compile(rf"[^\\{quote}]+") for quote in "\"'"}
_HEX = re.compile(r"u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_ESCAPES |= {sign: sign for sign in "\"'\\/"}
_CONSTANTS = {"true": True, "True": True, "false": False, "False": False}
_CONSTANTS |= {"null": None, "None": None}


def read_value(text: str) -> Any:
    """The value that ``text`` is, as JSON would hold it.

    Raises:
        ValueError: ``text`` is not a value.
    """
    try:
        return json.loads(text, strict=False, parse_constant=_refuse, parse_float=_to_float)
    except (ValueError, RecursionError):
        return _Values(text).whole()


def read_members(text: str) -> dict[str, Any]:
    """The members between the brackets of ``text``: ``(key=value, …)`` or ``{key:value, …}``.

    Raises:
        ValueError: ``text`` is not of this form.
    """
    return _Values(text).whole_members()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _to_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse(text)
    return number


class _Values:
    def __init__(self, text: str):
        self._text = text
        self._at = 0

    def whole(self) -> Any:
        value = self._value(0)
        self._check_end()
        return value

    def whole_members(self) -> dict[str, Any]:
        opening = self._next()
        if opening not in ("(", "{"):
            raise self._error()
        self._at += 1
        members = self._members(")" if opening == "(" else "}", 1)
        self._check_end()
        return members

    def _check_end(self) -> None:
        if self._next():
            raise self._error()

    def _next(self) -> str:
        """The next character that is no white space; "" at the end."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]

    def _error(self) -> ValueError:
        return ValueError(f"no value at character {self._at}")

    def _value(self, depth: int) -> Any:
        sign = self._next()
        if depth > MAX_DEPTH:
            raise self._error()
        if sign == "{":
            self._at += 1
            return self._members("}", depth + 1)
        if sign and sign in "[(":
            self._at += 1
            return self._items("]" if sign == "[" else ")", depth + 1)
        if (sign and sign in "\"'") or self._text.startswith(GEMMA_QUOTE, self._at):
            return self._string()
        if number := _NUMBER.match(self._text, self._at):
            self._at = number.end()
            return int(number[0]) if number[0].lstrip("-").isdigit() else _to_float(number[0])
        word = _WORD.match(self._text, self._at)
        if word is None or word[0] not in _CONSTANTS:
            raise self._error()
        self._at = word.end()
        return _CONSTANTS[word[0]]

    def _items(self, closing: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while self._next() != closing:
            items.append(self._value(depth))
            self._end_member(closing)
        self._at += 1
        return items

    def _members(self, closing: str, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while self._next() != closing:
            key = self._key()
            if self._next() not in ((":", "=") if closing == ")" else (":",)):
                raise self._error()
            self._at += 1
            if key in members:
                raise self._error()
            members[key] = self._value(depth)
            self._end_member(closing)
        self._at += 1
        return members

    def _end_member(self, closing: str) -> None:
        sign = self._next()
        if sign == ",":
            self._at += 1
        elif sign != closing:
            raise self._error()

    def _key(self) -> str:
        sign = self._next()
        if (sign and sign in "\"'") or self._text.startswith(GEMMA_QUOTE, self._at):
            return self._string()
        word = _WORD.match(self._text, self._at)
        if word is None:
            raise self._error()
        self._at = word.end()
        return word[0]

    def _string(self) -> str:
        if self._text.startswith(GEMMA_QUOTE, self._at):
            start = self._at + len(GEMMA_QUOTE)
            end = self._text.find(GEMMA_QUOTE, start)
            if end < 0:
                raise self._error()
            self._at = end + len(GEMMA_QUOTE)
            return self._text[start:end]
        quote = self._text[self._at]
        self._at += 1
        parts: list[str] = []
        while True:
            if chunk := _CHUNK[quote].match(self._text, self._at):
                parts.append(chunk[0])
                self._at = chunk.end()
            sign = self._text[self._at : self._at + 1]
            self._at += 1
            if sign == quote:
                return _join_surrogates("".join(parts))
            if not sign:
                raise self._error()
            parts.append(self._escape())

    def _escape(self) -> str:
        sign = self._text[self._at : self._at + 1]
        if code := _HEX.match(self._text, self._at):
            self._at = code.end()
            return chr(int(code[1] or code[2], 16))
        self._at += 1
        return _ESCAPES.get(sign, f"\\{sign}")


def _join_surrogates(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
