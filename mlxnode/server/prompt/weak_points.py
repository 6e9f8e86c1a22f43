"""The places of a text where a control token could begin, alone or beside other texts."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

# What a template removes from a text can bring two parts of it together.
_REMOVAL = re.compile(
    r"\b(?:replace|r?split|r?partition|[lr]?strip|removeprefix|removesuffix)"
    r"""\(\s*(?:"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)')"""
)
# Where the template's own texts end and begin: at quotation marks and tags.
_TEXT_END = re.compile(r"""['"]|\s*\{[{%#]""")
_TEXT_START = re.compile(r"""['"]|[}%#]\}\s*""")
# Characters that a normalizer changes if it can write other ones for those of a text.
_PROBE = "\uff1c\u212a\ufb01"
_ASCII = "".join(map(chr, range(33, 127)))
_BEYOND_ASCII = re.compile(r"[^\t\n\r -~]")


class WeakPoints:
    """Finds the places of a text where a sentinel keeps control tokens from being formed.

    They are after the first character of a control token, in upper or lower case; after that
    of a part at the end of the text, which the next text could complete; and the start of a
    text that could complete what the template writes before it. Template: the source of the
    chat template; texts are trimmed by it, and lose the literals that it replaces.
    """

    def __init__(self, controls: Collection[str], template: str, normalizer: Any = None):
        """``controls``: texts of two characters or more; ``normalizer``: the tokenizer's."""
        texts = {text.lower() for text in controls}
        self._normalizer: Any = None  # if it matters
        self._changes_ascii = not _keeps(normalizer, _ASCII)
        if self._changes_ascii or not _keeps(normalizer, _PROBE):
            self._normalizer = normalizer
            texts |= {self._normalizer.normalize_str(text).lower() for text in controls}
        self._longest = max(map(len, texts), default=0)
        firsts = {text[0] for text in texts}
        # The lookahead finds the tokens that begin within another one.
        whole = (
            re.escape(first) + f"(?={_any_of(t[1:] for t in texts if t[0] == first)})"
            for first in firsts
        )
        self._whole = re.compile("|".join(whole) or "(?!)", re.IGNORECASE)
        self._first = re.compile(_any_of(firsts), re.IGNORECASE)
        self._last = re.compile(_any_of({text[-1] for text in texts}), re.IGNORECASE)
        self._prefixes = {text[:n] for text in texts for n in range(1, len(text))}
        self._suffixes, self._middles = self._completions(texts, template.lower())
        literals = (a or b for a, b in _REMOVAL.findall(template))
        removed = {literal for literal in literals if literal.replace("\\n", "").strip()}
        self._removed = re.compile(_any_of(removed))

    def has_any(self, text: str) -> bool:
        """True if ``text``, or what the normalizer makes of it, has a weak point."""
        if self._in(text):
            return True
        if self._normalizer is None or not (self._changes_ascii or _BEYOND_ASCII.search(text)):
            return False
        return bool(self._in(self._normalizer.normalize_str(text)))

    def filled(self, text: str, sentinel: str) -> str:
        """``text`` with ``sentinel`` in its weak points."""
        pieces: list[str] = []
        at = 0
        for point in self._in(text):
            pieces += [text[at:point], sentinel]
            at = point
        return "".join([*pieces, text[at:]])

    def _in(self, text: str) -> list[int]:
        """The weak points of ``text``, ascending, each once."""
        points = set(self._start(text)) if self._suffixes else set[int]()
        if self._first.search(text):
            if self._removed.search(text):
                points.update(found.end() for found in self._first.finditer(text))
            else:
                points.update(found.end() for found in self._whole.finditer(text))
                points.update(self._end(text))
        return sorted(points)

    def _end(self, text: str) -> Iterator[int]:
        """After the first characters of what the next text could complete."""
        end = len(text.rstrip())
        start = max(0, end - self._longest + 1)
        for found in self._first.finditer(text, start, end):
            if text[found.start() : end].lower() in self._prefixes:
                yield found.end()

    def _start(self, text: str) -> Iterator[int]:
        """The start of a text that could complete what the template has begun."""
        start = len(text) - len(text.lstrip())
        head = text[start : start + self._longest].lower()
        ends = (found.end() for found in self._last.finditer(head))
        if head.rstrip() in self._middles or any(head[:end] in self._suffixes for end in ends):
            yield start

    def _completions(self, texts: set[str], template: str) -> tuple[set[str], set[str]]:
        """The ends of the control tokens that the template can begin, and their middles."""
        tails = (template[: found.start()] for found in _TEXT_END.finditer(template))
        begun = {
            tail[-n:]
            for tail in tails
            for n in range(1, self._longest)
            if tail[-n:] in self._prefixes
        }
        suffixes = {
            text[n:]
            for text in texts
            if text.startswith(tuple(begun))
            for n in range(1, len(text))
        }
        heads = (template[found.end() :] for found in _TEXT_START.finditer(template))
        ended = {
            head[:n] for head in heads for n in range(1, self._longest) if head[:n] in suffixes
        }
        middles = {
            text[len(before) : len(text) - len(after)]
            for text in texts
            for before in begun
            for after in ended
            if text.startswith(before) and text.endswith(after)
        }
        return suffixes, middles - {""}


def _keeps(normalizer: Any, text: str) -> bool:
    """True if ``normalizer`` changes nothing in ``text``; it may put something before it."""
    return normalizer is None or normalizer.normalize_str(text).endswith(text)


def _any_of(texts: Iterable[str]) -> str:
    """A regular expression of these texts, of which the shorter ones are found first.

    Common prefixes are written once: some vocabularies have thousands of control tokens.
    """
    rest = set(texts)
    if "" in rest:
        return ""
    if not rest:
        return "(?!)"
    first, last = min(rest), max(rest)
    pairs = enumerate(zip(first, last, strict=False))
    common = next((n for n, (a, b) in pairs if a != b), len(first))
    if common:
        return re.escape(first[:common]) + _any_of(text[common:] for text in rest)
    groups: dict[str, set[str]] = {}
    for text in rest:
        groups.setdefault(text[0], set()).add(text)
    return f"(?:{'|'.join(map(_any_of, groups.values()))})"
