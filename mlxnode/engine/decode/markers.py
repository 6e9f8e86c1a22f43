"""Markers in the text of a sequence, in any of their spellings."""

import operator
from collections.abc import Sequence


class Marker:
    """A marker in all its spellings: sequences of places, with the ids that may stand there."""

    def __init__(self, spellings: Sequence[Sequence[Sequence[int]]]):
        self._spellings = [[frozenset(ids) for ids in spelling] for spelling in spellings]
        self._last_ids = frozenset(id for spelling in spellings for id in spelling[-1])

    def ends(self, tokens: list[int]) -> bool:
        """True if the marker stands at the end of ``tokens``."""
        return tokens[-1] in self._last_ids and any(
            len(tokens) >= len(spelling)
            and all(map(operator.contains, spelling, tokens[-len(spelling) :]))
            for spelling in self._spellings
        )
