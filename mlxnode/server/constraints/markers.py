"""The tokens of a model that a grammar can only name by their ids."""

import functools
import json
import re
from collections.abc import Collection, Iterable, Mapping

from mlxnode.grammar import is_marker


class Plain(str):
    """A text in which the text of a marker means nothing."""

    __slots__ = ()


class MarkerTokens:
    """The added tokens of a tokenizer that no text of a grammar matches."""

    def __init__(self, added: Mapping[str, int] | None = None, special: Collection[int] = ()):
        """``added`` has the id of each added token; ``special`` ids give no text."""
        added = added or {}
        self._ids = {text: id for text, id in added.items() if is_marker(text, id in special)}
        self._with_text = sorted(set(self._ids.values()).difference(special))

    def spell(self, *texts: str) -> str:
        """The texts as one Lark expression, which names the markers in them; "" for no text.

        ``Plain`` texts are spelled without markers.
        """
        pieces: list[str] = []
        for text in texts:
            is_plain = isinstance(text, Plain) or not self._ids
            for piece in [str(text)] if is_plain else self._pattern.split(text):
                if not is_plain and piece in self._ids:
                    pieces.append(f"<[{self._ids[piece]}]>")
                elif piece and pieces and pieces[-1].startswith('"'):
                    pieces[-1] = quoted(json.loads(pieces[-1]) + piece)
                elif piece:
                    pieces.append(quoted(piece))
        return " ".join(pieces)

    def split(self, text: str) -> tuple[str, str, str]:
        """The text before the first marker, the marker, and the rest; "" where none is."""
        found = self._pattern.search(text) if self._ids else None
        if found is None:
            return text, "", ""
        return text[: found.start()], found[0], text[found.end() :]

    def any_of(self, texts: Iterable[str], *, without: str) -> str:
        """One of the markers in ``texts``, or one that gives text, as a Lark expression.

        "" if there is none. ``without`` is a marker that does not count.
        """
        if not self._ids:
            return ""
        ids = {self._ids[found] for text in texts for found in self._pattern.findall(text)}
        ids = ids.union(self._with_text) - {self._ids.get(without)}
        return f"<[{_ranges(sorted(ids))}]>" if ids else ""

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        # The longest one first: a marker may be the start of another.
        texts = sorted(self._ids, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, texts))})")


NO_MARKERS = MarkerTokens()


def quoted(text: str) -> str:
    """``text`` as a string of Lark."""
    return json.dumps(text, ensure_ascii=False)


def _ranges(ids: list[int]) -> str:
    """Ascending ids as a list of ranges."""
    ranges: list[list[int]] = []
    for id in ids:
        if ranges and ranges[-1][1] == id - 1:
            ranges[-1][1] = id
        else:
            ranges.append([id, id])
    return ",".join(f"{low}-{high}" if low < high else f"{low}" for low, high in ranges)
