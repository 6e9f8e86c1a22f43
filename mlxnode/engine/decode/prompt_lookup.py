"""Speculative decoding by prompt lookup: a sequence probably continues as it did before.

Code is repeated with a change, documents are quoted, names occur again. If the last tokens of a
sequence occurred earlier, the tokens that followed them are the draft. One forward pass samples
the model's token after each draft token. The tokens after correct draft tokens are accepted.
They are exactly the tokens of a run without drafts, because a sampled token depends only on the
sequence, the seed and the position.

The technique is Apoorv Saxena's: https://github.com/apoorvumang/prompt-lookup-decoding
"""

from collections.abc import Sequence
from typing import Protocol

_GRAM = 3  # tokens that must occur again
_MIN_CORRECT = 2  # draft tokens that must be correct before a draft is used
MAX_DRAFTED_ROWS = 8  # larger batches use the whole device without drafts


class DraftableRow(Protocol):
    """The part of a request that drafting needs."""

    prompt: list[int]
    tokens: list[int]
    drafter: "Drafter | None"

    @property
    def num_remaining(self) -> int: ...

    @property
    def depends_on_last_token(self) -> bool: ...

    @property
    def holds_back_stops(self) -> bool: ...


class Drafter:
    """Drafts of one sequence, and how many of the last draft tokens were correct."""

    def __init__(self, tokens: Sequence[int]):
        self._tokens = list(tokens)
        grams = zip(*(self._tokens[i:] for i in range(_GRAM)), strict=False)
        # The index after the last occurrence of each n-gram.
        self._after = dict(zip(grams, range(_GRAM, len(self._tokens)), strict=False))
        self._next: int | None = None  # the index of the next draft token
        self._look_up()
        self._num_correct = 0  # in a row

    def add(self, token: int) -> None:
        """Append the next token of the sequence."""
        if self._next is not None and self._tokens[self._next] == token:
            self._num_correct += 1
            self._next += 1
        else:
            self._num_correct = 0
            self._next = None
        self._tokens.append(token)
        self._look_up()

    def draft(self, max_tokens: int) -> list[int]:
        """The draft. It is longer if more of the last draft tokens were correct."""
        if self._next is None or self._num_correct < _MIN_CORRECT:
            return []
        period = len(self._tokens) - self._next
        draft: list[int] = []
        for i in range(min(max_tokens, 2 * self._num_correct)):
            # A draft that reaches the end of the sequence continues with its own tokens.
            is_known = i < period
            draft.append(self._tokens[self._next + i] if is_known else draft[i - period])
        return draft

    def _look_up(self) -> None:
        """Find the next draft token if there is none, and index the last n-gram."""
        gram = tuple(self._tokens[-_GRAM:])
        if self._next is None:
            self._next = self._after.get(gram)
        if len(gram) == _GRAM:
            self._after[gram] = len(self._tokens)


class DraftBudget:
    """Permits drafts as long as they have cost no more than 3 % of the time.

    Steps without drafts pay that share of their duration in. A step with drafts pays in the
    time that it saved, or takes out the time that it lost.
    """

    SHARE = 0.03
    MAX_STEPS = 10  # the balance is at most the duration of so many steps

    def __init__(self) -> None:
        self._balance = 0.0  # seconds
        self._plain: dict[int, float] = {}  # seconds of a step without drafts, by rows

    def permits(self, rows: int) -> bool:
        """True if a batch of ``rows`` may use drafts."""
        return rows in self._plain and self._balance > 0

    def observe(self, rows: int, seconds: float, tokens: int, *, is_drafted: bool) -> None:
        """Learn from a step that gave ``tokens`` tokens to ``rows`` rows."""
        plain = self._plain.get(rows, seconds)
        if is_drafted:
            gain = tokens / rows * plain - seconds
        else:
            plain += 0.3 * (seconds - plain)
            self._plain[rows] = plain
            gain = self.SHARE * seconds
        limit = self.MAX_STEPS * plain
        self._balance = min(max(self._balance + gain, -limit), limit)


class PromptLookup:
    """Decides when a batch uses drafts, and makes them."""

    def __init__(self, max_tokens: int):
        """``max_tokens``: the maximum length of a draft; 0 means no drafts."""
        self._max_tokens = max_tokens
        self.budget = DraftBudget()

    def is_promising(self, rows: Sequence[DraftableRow]) -> bool:
        """True if it pays to read the last tokens first, in order to draft the next ones."""
        if not self._max_tokens or not 0 < len(rows) <= MAX_DRAFTED_ROWS:
            return False
        drafters = [self._drafter_of(row) for row in rows]
        return (
            self.budget.permits(len(rows))
            and not any(row.depends_on_last_token or row.holds_back_stops for row in rows)
            and sum(bool(drafter.draft(1)) for drafter in drafters) > len(rows) // 2
        )

    def draft(self, rows: Sequence[DraftableRow]) -> list[list[int]] | None:
        """The draft of each row, None if all drafts are empty."""
        drafts = [self._draft_of(row) for row in rows]
        return drafts if any(drafts) else None

    def _draft_of(self, row: DraftableRow) -> list[int]:
        if row.depends_on_last_token:  # since that token was read
            return []
        return self._drafter_of(row).draft(min(self._max_tokens, row.num_remaining - 1))

    def _drafter_of(self, row: DraftableRow) -> Drafter:
        if row.drafter is None:
            row.drafter = Drafter(row.prompt + row.tokens)
        return row.drafter
