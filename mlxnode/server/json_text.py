"""Reads JSON whose strings are not quite JSON's, as clients and models write it."""

import itertools
import json
import re
from typing import Any

MAX_DEPTH = 128  # levels of objects and arrays: what writes them again is recursive
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
# Linear in any text: never goes back, and a string without an end takes the rest.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_LEVELS = {"[": 1, "{": 1, "]": -1, "}": -1}


class TooDeep(ValueError):
    """JSON of more than ``MAX_DEPTH`` levels."""


def load_json(text: str, **hooks: Any) -> Any:
    """The value of ``text``; ``hooks`` are those of ``json.loads``.

    Raw control characters in strings are understood. An escape that is half a surrogate pair,
    left where somebody cut a text within a character, becomes U+FFFD: no encoder takes it.

    Raises:
        TooDeep: it has more than ``MAX_DEPTH`` levels.
        ValueError: ``text`` is not JSON, or a hook refuses it.
    """
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise TooDeep(f"more than {MAX_DEPTH} levels of objects and arrays")
    value = json.loads(text, strict=False, **hooks)
    if not _SURROGATE_ESCAPE.search(text):
        return value
    # What is left of surrogates after reading is halves. They are replaced in a text again,
    # not by a walk over the values: in time for the hooks to see two keys that become one.
    whole, count = _SURROGATE.subn(_REPLACEMENT, json.dumps(value, ensure_ascii=False))
    return json.loads(whole, **hooks) if count else value


def without_strings(text: str) -> str:
    """``text`` with a quotation mark in the place of each string."""
    return _STRING.sub('"', text)


def _depth(text: str) -> int:
    """The largest number of objects and arrays within each other."""
    brackets = _NO_BRACKET.sub("", without_strings(text))
    return max(itertools.accumulate(map(_LEVELS.__getitem__, brackets)), default=0)
