"""Speculative decoding by prompt lookup: a text is guessed to go on as it did before.

Code is repeated with a change, documents are quoted, names come again. Where the last tokens of
a text occurred earlier in it, those that followed are drafted as the next ones, and one forward
pass tells what the model draws at every place of the draft. The draws that follow right guesses
are the text, token for token what it would be without drafts, since every draw depends on its
seed and position alone.

The technique is Apoorv Saxena's: https://github.com/apoorvumang/prompt-lookup-decoding
"""

from collections.abc import Sequence

_GRAM = 3  # tokens that have to occur again
_MIN_RIGHT = 2  # guesses that have to come true before one is acted upon


class Drafter:
    """What one text may go on with, and how well its guesses did so far."""

    def __init__(self, tokens: Sequence[int]):
        """Takes a text of which nothing was guessed yet."""
        self._tokens = list(tokens)
        grams = zip(*(self._tokens[i:] for i in range(_GRAM)), strict=False)
        # Where each sequence of tokens occurred last: the place behind it.
        self._behind = dict(zip(grams, range(_GRAM, len(self._tokens)), strict=False))
        self._at: int | None = None  # the place of the next guess
        self._look_up()
        self._num_right = 0  # guesses in a row that came true

    def add(self, token: int) -> None:
        """Take the next token of the text."""
        if self._at is not None and self._tokens[self._at] == token:
            self._num_right += 1
            self._at += 1
        else:
            self._num_right = 0
            self._at = None
        self._tokens.append(token)
        self._look_up()

    def draft(self, most: int) -> list[int]:
        """What the text goes on with; the longer, the more guesses came true."""
        if self._at is None or self._num_right < _MIN_RIGHT:
            return []
        period = len(self._tokens) - self._at
        guesses: list[int] = []
        for i in range(min(most, 2 * self._num_right)):
            # A guess that reaches the end goes on with what it guessed itself.
            known = i < period
            guesses.append(self._tokens[self._at + i] if known else guesses[i - period])
        return guesses

    def _look_up(self) -> None:
        """Find the place to guess from, unless there is one, and note where this one is."""
        gram = tuple(self._tokens[-_GRAM:])
        if self._at is None:
            self._at = self._behind.get(gram)
        if len(gram) == _GRAM:
            self._behind[gram] = len(self._tokens)


class Allowance:
    """Lets a batch try drafts for as long as they have cost no more than 3 % of the time.

    Plain steps pay that share of their time in. A step with drafts pays in the time that it
    saved against plain ones, or takes out what it lost.
    """

    SHARE = 0.03
    MOST = 10  # plain steps' time that may be saved up or owed

    def __init__(self) -> None:
        self._balance = 0.0  # seconds
        self._plain: dict[int, float] = {}  # seconds of a plain step, by rows

    def has_room(self, rows: int) -> bool:
        """Whether drafts may be tried in a batch of so many rows."""
        return rows in self._plain and self._balance > 0

    def observe(self, rows: int, seconds: float, tokens: int, *, is_drafted: bool) -> None:
        """Learn from a step that brought so many ``tokens`` to ``rows`` rows."""
        plain = self._plain.get(rows, seconds)
        if is_drafted:
            gain = tokens / rows * plain - seconds
        else:
            plain += 0.3 * (seconds - plain)
            self._plain[rows] = plain
            gain = self.SHARE * seconds
        most = self.MOST * plain
        self._balance = min(max(self._balance + gain, -most), most)
