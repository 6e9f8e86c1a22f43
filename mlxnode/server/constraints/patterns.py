r"""From ECMAScript's regular expressions, which JSON schemas use, to Rust's.

Where dialects differ (\s in Python, Rust and ECMAScript), the translation matches what all
of them match, so that the client's validator accepts the answer whatever its language.
"""

import functools
import re
from dataclasses import dataclass

from mlxnode.server.constraints.trial import problem_of

_SPACES = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
_NO_SPACES = r"\x{1c}-\x{1f}\x{85}\x{feff}"  # spaces in some dialects
_CLASSES = {"s": _SPACES, "d": "0-9", "w": "0-9A-Za-z_"}
_NOT = {"S": f"[^{_SPACES}{_NO_SPACES}]", "D": "[^0-9]", "W": "[^0-9A-Za-z_]"}
_ANCHORS = {"A": "^", "Z": "$", "z": "$"}  # Python's and Rust's, which pydantic passes on
_CONTROLS = {"t": r"\t", "n": r"\n", "r": r"\r", "f": r"\f", "v": r"\v", "0": r"\x{0}"}
_MAX_AHEADS = 16  # each one is a pattern of its own
_QUANTIFIER = re.compile(r"\{\d+(?:,\d*)?\}")
_GROUP = re.compile(r"\?(?:P?<[^>=!]+>|:)")
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}")
_LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_PROPERTY = re.compile(r"[pP]\{[^}]*\}")
_CONTROL_LETTER = re.compile("c([A-Za-z])")
_PUNCTUATION = frozenset("^$\\.*+?()[]{}|/-&~#@!%'\"<>=,:;_ `")


@dataclass(frozen=True)
class Patterns:
    """Rust patterns that a string must all match, and why the original says more, if so."""

    patterns: tuple[str, ...]
    problem: str | None = None


class _Unsupported(ValueError):
    """The message says what the regular expression has."""


@functools.lru_cache(maxsize=512)
def translate(pattern: str) -> Patterns:
    """``pattern`` as patterns that llguidance takes.

    Look-aheads at the start become patterns of their own. What cannot be said is left out.
    """
    aheads, rest = _split(pattern)
    patterns: list[str] = []
    problem = None
    for is_negative, part in [*aheads, (False, rest)]:
        try:
            if is_negative:
                raise _Unsupported("a negative look-ahead")
            translated = _translate(part)
        except _Unsupported as error:
            problem = str(error)
            continue
        if reason := problem_of({"type": "string", "pattern": translated}):
            problem = reason
        else:
            patterns.append(translated)
    return Patterns(tuple(dict.fromkeys(patterns)), problem)


def _split(pattern: str) -> tuple[list[tuple[bool, str]], str]:
    """The look-aheads that follow a leading ``^``, (negative, pattern) each, and the rest."""
    aheads: list[tuple[bool, str]] = []
    i = 1
    while pattern.startswith("^") and pattern.startswith(("(?=", "(?!"), i):
        end = _end_of_group(pattern, i)
        if end is None:
            return [], pattern
        aheads.append((pattern[i + 2] == "!", f"^(?:{pattern[i + 3 : end - 1]})"))
        i = end
    rest = pattern[i:]
    if len(aheads) > _MAX_AHEADS or not aheads:
        return [], pattern
    if rest[:1] in tuple("*+?{") or _has_alternatives(rest):
        return [], pattern
    return aheads, f"^{rest}"


def _end_of_group(pattern: str, start: int) -> int | None:
    """The position after the group that begins at ``start``."""
    depth = 0
    for i, character in _outside_classes(pattern, start):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return i + 1
    return None


def _has_alternatives(pattern: str) -> bool:
    depth = 0
    for _, character in _outside_classes(pattern, 0):
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            return True
    return False


def _outside_classes(pattern: str, start: int):
    """Each (position, character) that is neither escaped nor in a class."""
    i, in_class = start, False
    while i < len(pattern):
        character = pattern[i]
        if character == "\\":
            i += 2
            continue
        if in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        else:
            yield i, character
        i += 1


def _translate(pattern: str) -> str:
    out: list[str] = []
    i = 0
    while i < len(pattern):
        character = pattern[i]
        if character == "\\":
            piece, i = _escape(pattern, i + 1, in_class=False)
        elif character == "[":
            piece, i = _class(pattern, i + 1)
        elif character == "(":
            piece, i = _group(pattern, i + 1)
        elif character == "{" and (match := _QUANTIFIER.match(pattern, i)):
            piece, i = match[0], match.end()
        else:
            piece = r"[^\n\r\x{2028}\x{2029}]" if character == "." else character
            piece = f"\\{character}" if character in "{}]" else piece
            i += 1
        out.append(piece)
    return "".join(out)


def _group(pattern: str, i: int) -> tuple[str, int]:
    """The start of a group whose text begins at ``i``."""
    if not pattern.startswith("?", i):
        return "(", i
    if match := _GROUP.match(pattern, i):
        return "(?:", match.end()
    if pattern.startswith("?i", i) and pattern[i + 2 : i + 3] in (":", ")"):
        return f"(?i{pattern[i + 2]}", i + 3
    kinds = {"?=": "look-ahead", "?!": "look-ahead", "?<": "look-behind"}
    raise _Unsupported(f"a {kinds.get(pattern[i : i + 2], 'group of an unknown kind')}")


def _class(pattern: str, i: int) -> tuple[str, int]:
    """The class whose text begins at ``i``, after its bracket."""
    start = "[^" if pattern.startswith("^", i) else "["
    i += len(start) - 1
    if pattern.startswith("]", i):
        if start == "[":
            raise _Unsupported("an empty class")
        return r"[\x{0}-\x{10ffff}]", i + 1
    out = [start]
    while i < len(pattern) and pattern[i] != "]":
        character = pattern[i]
        if character == "\\":
            is_class = pattern[i + 1 : i + 2] in tuple("sdwSDWpP")
            piece, i = _escape(pattern, i + 1, in_class=True)
            if is_class and pattern.startswith("-", i):
                piece, i = piece + r"\-", i + 1  # the end of a range cannot be a class
        elif pattern.startswith("--", i):
            piece, i = r"-\-", i + 2
        else:
            # Rust has nested classes and operators of sets.
            piece, i = (f"\\{character}" if character in "[&~" else character), i + 1
        out.append(piece)
    if i == len(pattern):
        raise _Unsupported("an unclosed class")
    return "".join([*out, "]"]), i + 1


def _escape(pattern: str, i: int, *, in_class: bool) -> tuple[str, int]:
    """The escape whose text begins at ``i``, after its backslash."""
    if match := _HEX.match(pattern, i):
        return _character(pattern, match)
    if match := _PROPERTY.match(pattern, i):
        return f"\\{match[0]}", match.end()
    if match := _CONTROL_LETTER.match(pattern, i):
        return f"\\x{{{ord(match[1]) % 32:x}}}", match.end()
    character = pattern[i : i + 1]
    if character in _CLASSES and character:
        piece = _CLASSES[character] if in_class else f"[{_CLASSES[character]}]"
    elif character in _NOT:
        piece = _NOT[character]
    elif character in _CONTROLS and not pattern[i + 1 : i + 2].isdigit():
        piece = _CONTROLS[character]
    elif character == "b" and in_class:
        piece = r"\x{8}"
    elif character in _ANCHORS and not in_class:
        piece = _ANCHORS[character]
    elif character in _PUNCTUATION:
        piece = f"\\{character}" if character not in "_ ,:;<>=@!%'\"`" else character
    elif character and not character.isascii():
        piece = character
    else:
        kinds = {"b": "a word boundary", "B": "a word boundary", "k": "a back-reference"}
        is_reference = character.isdigit()
        raise _Unsupported(
            "a back-reference"
            if is_reference
            else kinds.get(character, f"the escape \\{character}")
        )
    return piece, i + 1


def _character(pattern: str, match: re.Match[str]) -> tuple[str, int]:
    """The character of a hexadecimal escape, or of two that are a pair of surrogates."""
    code, end = int(match[1] or match[2] or match[3], 16), match.end()
    if 0xD800 <= code < 0xDC00 and (low := _LOW_SURROGATE.match(pattern, end)):
        code = 0x10000 + ((code - 0xD800) << 10) + (int(low[1], 16) - 0xDC00)
        end = low.end()
    if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
        raise _Unsupported("half a character")
    return f"\\x{{{code:x}}}", end
