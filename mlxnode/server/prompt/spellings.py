"""The token sequences that hold a marker.

A marker that is no token of its own shares its first and its last token with the text around
it: ``.</`` ``think`` ``>\\n``.
"""

import functools

from tokenizers import Encoding, Tokenizer

# The ids that may stand at each place.
Spelling = list[list[int]]

# Surroundings in which a marker is split in different ways.
_BEFORE = ("", "a", "\n", " ", ".", ".\n", "!", ")", '"', "`", "*")
_AFTER = ("", "a", "\n", "\n\n", " ", "{", "<", "#")


class Speller:
    """Finds the spellings of the markers of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer

    @functools.cached_property
    def _vocabulary(self) -> dict[str, int]:
        return self._tokenizer.get_vocab(with_added_tokens=False)

    @functools.cached_property
    def _added_ids(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_added_tokens_decoder())

    def spellings(self, marker: str) -> list[Spelling]:
        """All that ``marker`` can be in tokens: one spelling for each way to split it."""
        found: dict[tuple[str, ...], list[set[int]]] = {}
        for before in _BEFORE:
            for after in _AFTER:
                text = f"{before}{marker}{after}"
                encoding = self._tokenizer.encode(text, add_special_tokens=False)
                parts, ids = _split(encoding, len(before), marker)
                places = found.setdefault(parts, [set() for _ in parts])
                for place, id in zip(places, ids, strict=True):
                    place.add(id)
        found.pop((), None)  # the tokenizer drops the marker
        # Other characters are written differently in a vocabulary.
        if marker.isascii() and marker.isprintable() and " " not in marker:
            for parts, places in found.items():
                self._add_neighbours(parts, places)
        return [[sorted(place) for place in places] for places in found.values()]

    def _add_neighbours(self, parts: tuple[str, ...], places: list[set[int]]) -> None:
        """Add the tokens that hold text around the marker, too; added tokens hold none."""
        if len(parts) == 1:
            return
        for place, part, is_at_edge in (
            (places[0], parts[0], str.endswith),
            (places[-1], parts[-1], str.startswith),
        ):
            if not place <= self._added_ids:
                place.update(
                    id for token, id in self._vocabulary.items() if is_at_edge(token, part)
                )


def _split(encoding: Encoding, start: int, marker: str) -> tuple[tuple[str, ...], list[int]]:
    """The parts of ``marker``, at ``start`` of the text, and the token that holds each."""
    parts, ids = [], []
    for id, (first, last) in zip(encoding.ids, encoding.offsets, strict=True):
        if part := marker[max(first - start, 0) : max(last - start, 0)]:
            parts.append(part)
            ids.append(id)
    return tuple(parts), ids
