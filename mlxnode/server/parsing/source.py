"""The text of a model while it arrives: readers wait in it for what they need to know."""

import re
from bisect import bisect_left
from collections.abc import Collection, Generator
from typing import TypeVar

Result = TypeVar("Result")
# A reader: a generator that pauses while it needs more text.
Reading = Generator[None, None, Result]

# Characters. Past this, a text that is no call is content as a whole, so that the time for an
# answer stays in proportion to its length.
MAX_READ_AGAIN = 262_144
MAX_SPACE = 1000  # characters that ``follows`` looks across

_SPACE = re.compile(r"\s*")
_SOME_SPACE = re.compile(rf"\s{{0,{MAX_SPACE}}}")


class TextSource:
    """Text that is fed in parts and taken from the front.

    What a reader takes and returns depends on the whole text only, not on its parts: each
    method that reads waits until further text cannot change its result. After ``mark``, taken
    text is remembered, so that a reader can go back.
    """

    def __init__(self) -> None:
        self.text = ""  # the current part; readers have taken the characters before ``at``
        self.at = 0
        self.is_last = False  # no more text will come
        self.is_cut = False  # the text was ended by a limit, not by the model
        self.ran_short = False  # since the mark, a reader has asked for text behind the end
        self._start = 0  # the offset of ``text`` in the whole text
        self._marked: list[str] | None = None  # the parts before ``text``, from the mark on
        self._marked_from = 0
        self._budget = MAX_READ_AGAIN
        self._specials: list[tuple[int, int]] = []  # the offsets of special tokens' texts

    @property
    def offset(self) -> int:
        """The number of characters that are taken."""
        return self._start + self.at

    def feed(self, text: str, *, is_special: bool, is_last: bool, is_cut: bool) -> None:
        if self._marked is not None and self.at:
            self._marked.append(self.text[: self.at])
        self._start += self.at
        self.text = self.text[self.at :] + text
        self.at = 0
        end = self._start + len(self.text)
        if is_special and text:
            self._specials.append((end - len(text), end))
        self.is_last = is_last
        self.is_cut = is_cut

    def more(self) -> Reading[bool]:
        """Wait for more text; False if there is none."""
        if self.is_last:
            self.ran_short = True
            return False
        yield
        return True

    # --- taking ---------------------------------------------------------------------

    def take(self, length: int) -> str:
        taken = self.text[self.at : self.at + length]
        self.at += len(taken)
        return taken

    def take_visible(self, length: int) -> str:
        """Take text without the special tokens in it."""
        offset = self.offset
        return self._without_specials(offset, self.take(length))

    def _without_specials(self, offset: int, text: str) -> str:
        end = offset + len(text)
        first = bisect_left(self._specials, (offset, 0))
        if first and self._specials[first - 1][1] > offset:
            first -= 1
        parts: list[str] = []
        at = offset
        for index in range(first, len(self._specials)):
            start, stop = self._specials[index]
            if start >= end:
                break
            parts.append(text[at - offset : max(start - offset, 0)])
            at = stop
        parts.append(text[at - offset :] if at < end else "")
        return "".join(parts)

    # --- going back -----------------------------------------------------------------

    def mark(self) -> int:
        """Remember the text from here on; returns the offset, for ``go_back``."""
        if self._marked is None:
            self.ran_short = False
            self._marked, self._marked_from = [], self._start
        return self.offset

    def unmark(self) -> None:
        self._marked = None

    def go_back(self, offset: int) -> bool:
        """Continue at an offset that was marked; False if too much would be read again."""
        length = self.offset - offset
        if length > self._budget:
            return False
        self._budget -= length
        if offset < self._start and self._marked is not None:
            self.text = "".join(self._marked) + self.text
            self._marked, self._start = [], self._marked_from
        self.at = offset - self._start
        return True

    def visible_since(self, offset: int) -> str:
        """The text taken since a marked offset, without the special tokens in it."""
        text = "".join(self._marked or []) + self.text[: self.at]
        start = self._marked_from if self._marked is not None else self._start
        return self._without_specials(offset, text[offset - start :])

    # --- looking --------------------------------------------------------------------

    def skip_space(self) -> Reading[None]:
        while True:
            space = _SPACE.match(self.text, self.at)
            self.take(len(space[0]) if space else 0)
            if self.at < len(self.text) or not (yield from self.more()):
                return

    def next_of(self, literals: Collection[str]) -> Reading[str]:
        """The longest of ``literals`` that the text starts with; "" if there is none."""
        while self._can_be_longer(literals, self.at):
            if not (yield from self.more()):
                break
        return self._longest(literals, self.at)

    def follows(self, length: int, literals: Collection[str]) -> Reading[bool]:
        """True if, after ``length`` characters and white space, the text ends or has one."""
        while True:
            space = _SOME_SPACE.match(self.text, self.at + length)
            at = space.end() if space else len(self.text)
            is_long = space is not None and len(space[0]) == MAX_SPACE
            if is_long or not self._can_be_longer(literals, at):
                return bool(self._longest(literals, at))
            if not (yield from self.more()):
                return at == len(self.text) or bool(self._longest(literals, at))

    def _can_be_longer(self, literals: Collection[str], at: int) -> bool:
        """True if the rest of the text is the start of one of ``literals``."""
        rest = self.text[at : at + 256]
        return not rest or any(len(x) > len(rest) and x.startswith(rest) for x in literals)

    def _longest(self, literals: Collection[str], at: int) -> str:
        found = [x for x in literals if self.text.startswith(x, at)]
        return max(found, key=len, default="")

    def match(
        self, pattern: re.Pattern[str], start: re.Pattern[str]
    ) -> Reading[re.Match[str] | None]:
        """The match of ``pattern`` here; ``start`` matches a text that can become one."""
        while True:
            found = pattern.match(self.text, self.at, self.at + 256)
            rest = self.text[self.at : self.at + 256]
            if found or len(rest) == 256 or not start.fullmatch(rest):
                return found
            if not (yield from self.more()):
                return None

    def peek(self) -> Reading[str]:
        """The next character; "" at the end."""
        while self.at == len(self.text):
            if not (yield from self.more()):
                return ""
        return self.text[self.at]

    def ahead(self, length: int) -> Reading[str]:
        """The next ``length`` characters, or fewer at the end."""
        while len(self.text) - self.at < length:
            if not (yield from self.more()):
                break
        return self.text[self.at : self.at + length]

    def take_until(self, literal: str, limit: int | None = None) -> Reading[str | None]:
        """The text before ``literal``, which is next then; None if it does not come.

        ``limit``: the largest length of the text.
        """
        taken: list[str] = []
        length = 0
        while True:
            found = self.text.find(literal, self.at)
            if found < 0:
                certain = max(len(self.text) - self.at - len(literal) + 1, 0)
            else:
                certain = found - self.at
            length += certain
            if limit is not None and length > limit:
                return None
            taken.append(self.take(certain))
            if found >= 0:
                return "".join(taken)
            if not (yield from self.more()):
                self.take(len(self.text) - self.at)
                return None
