"""Finds the markers of a notation in a text that arrives in parts."""

import re
from collections.abc import Iterable

from mlxnode.server.parsing.source import TextSource


class MarkerSet:
    """Texts that end a section. Of two that start at one place, the longer counts."""

    def __init__(self, markers: Iterable[str]):
        self._markers = sorted({m for m in markers if m}, key=lambda m: (-len(m), m))
        self._pattern = re.compile("|".join(map(re.escape, self._markers)) or r"(?!)")
        self._first_signs = {marker[0] for marker in self._markers}
        self._longest = len(self._markers[0]) if self._markers else 0

    def __bool__(self) -> bool:
        return bool(self._markers)

    def find(self, source: TextSource) -> tuple[int, str]:
        """The length of the text that certainly ends no later than at a marker, and the marker.

        Without a marker (""), the text behind that length may start one.
        """
        text, at = source.text, source.at
        found = self._pattern.search(text, at)
        end = found.start() if found else len(text)
        if not source.is_last:
            first = max(at, len(text) - self._longest + 1)
            for start in range(first, end + (found is not None)):
                if self._can_grow(text, start):
                    return start - at, ""
        return end - at, found[0] if found else ""

    def num_partial(self, source: TextSource) -> int:
        """The length of the start of a marker at the end of the whole text."""
        text = source.text
        first = max(source.at, len(text) - self._longest + 1)
        for start in range(first, len(text)):
            if self._can_grow(text, start):
                return len(text) - start
        return 0

    def _can_grow(self, text: str, start: int) -> bool:
        """True if the rest of ``text`` is the start of a marker."""
        if text[start] not in self._first_signs:
            return False
        rest = text[start:]
        return any(len(m) > len(rest) and m.startswith(rest) for m in self._markers)
