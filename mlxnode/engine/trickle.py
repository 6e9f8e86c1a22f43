"""The little time of the background while the foreground never ends.

Without it, a batch would stand still on a node that is never idle, until it expires. A piece of
the background makes one gap between the tokens of each stream longer. So few gaps may be
touched that the 95th percentile of all stays where it is, whatever a piece costs; and pieces
that cost much are rare, so that all of them together take little of the time.
"""

import time
from collections.abc import Callable

AFTER = 2.0  # seconds for which the background has stood still
# Steps of the foreground between two pieces, which so touch 1% of the gaps. Prompts of others
# touch some gaps as well; both together must stay below the 5% beyond the percentile.
MIN_STEPS = 100
MAX_SHARE = 0.04  # of the time


class Trickle:
    """When the background gets a piece: one step of one model, a short chunk at most in it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """``clock`` gives seconds."""
        self._clock = clock
        self.reset()

    @property
    def is_due(self) -> bool:
        """True if a piece may be computed before the next step of the foreground."""
        return self._num_steps >= MIN_STEPS and self._clock() >= self._due_at

    def reset(self) -> None:
        """The background does not stand still: it is computed, or has no requests."""
        self._num_steps = 0
        self._due_at = self._clock() + AFTER

    def count_step(self) -> None:
        """Count a step of the foreground, beside which the background stands still."""
        self._num_steps += 1

    def count_piece(self, seconds: float) -> None:
        """A piece has taken ``seconds``: the next one waits for as long as it has cost."""
        self._num_steps = 0
        self._due_at = self._clock() + seconds / MAX_SHARE
