"""Texts compared by atoms: markers, words, numbers and single characters are never cut."""

import re
from collections.abc import Sequence
from itertools import takewhile

_MARKER = r"<[^<>]+>|\[/?[A-Z][A-Z_ ]*\]"
_ATOM = re.compile(rf"{_MARKER}|\d+|[^\W\d]+|.", re.DOTALL)
_IS_MARKER = re.compile(_MARKER)


def atoms(text: str) -> list[str]:
    return _ATOM.findall(text)


def is_marker(atom: str) -> bool:
    """True for ``<tag>``, ``<|token|>`` and ``[TOKEN]``."""
    return _IS_MARKER.fullmatch(atom) is not None


def common_prefix(first: str, second: str) -> str:
    """The longest prefix of both that ends between atoms."""
    return "".join(_common(atoms(first), atoms(second)))


def common_suffix(first: str, second: str) -> str:
    """The longest suffix of both that starts between atoms."""
    return "".join(reversed(_common(atoms(first)[::-1], atoms(second)[::-1])))


def _common(first: Sequence[str], second: Sequence[str]) -> list[str]:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return [atom for atom, _ in pairs]
