"""The limit of a model's reasoning: counts its tokens, and says what ends it.

The text that ends the reasoning is forced token by token. Each of its tokens is sampled like
any other, but from a mask that allows that token alone, so that its log-probability is the
model's, and no other row is concerned.
"""

from collections.abc import Sequence

from mlxnode.engine.decode.markers import Marker
from mlxnode.messages.data import ThinkingLimit


class Thinking:
    """The position of one sequence in its reasoning.

    The limit applies to the whole answer: reasoning that starts again after the limit is
    ended at once.
    """

    def __init__(self, limit: ThinkingLimit):
        self._limit = limit
        self._is_open = limit.is_open
        self._num_tokens = 0  # of reasoning, without the forced ones
        self._closing: Sequence[int] = limit.closing
        self._num_forced = 0  # tokens of the closing that are written
        self._is_past_end = False  # the written part of the closing ends the reasoning
        self._tokens: list[int] = []  # all that were read
        self._start, self._end = Marker(limit.starts), Marker(limit.ends)

    @property
    def forced_token(self) -> int | None:
        """The only token that may follow; None if the model is free."""
        if not self._is_open or self._num_tokens < self._limit.max_tokens or not self._closing:
            return None
        return self._closing[self._num_forced]

    def accept(self, token: int) -> None:
        """Advance by a token that was read.

        A grammar may not allow the forced token. Then the closing starts again, unless its
        end marker is written: what follows that is left to the grammar.
        """
        forced = self.forced_token
        self._tokens.append(token)
        if token == forced:
            self._force()
        elif self._is_past_end:
            self._end_closing()
        elif self._is_open:
            self._num_forced = 0
            self._num_tokens += forced is None
            if self._end.ends(self._tokens):
                self._is_open = False
        elif self._start.ends(self._tokens):
            self._is_open = True

    def _force(self) -> None:
        self._num_forced += 1
        self._is_past_end |= self._end.ends(self._tokens)
        if self._num_forced == len(self._closing):
            self._end_closing()

    def _end_closing(self) -> None:
        self._is_open = self._is_past_end = False
        self._num_forced = 0
        self._closing = self._limit.reclosing
