"""Which line of which batch is next."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlxnode.batches.reading import Line

MODEL_SECONDS = 60.0  # that lines of one model are begun, while those of another one wait


@dataclass
class Pending:
    """The lines of one batch that have not begun, by model."""

    key: str  # whose batch it is
    number: int  # of the batch: a later one has a larger number
    lines: dict[str, deque[Line]] = field(default_factory=dict)

    @classmethod
    def of(cls, key: str, number: int, lines: Iterable[Line]) -> "Pending":
        pending = cls(key, number)
        for line in lines:
            pending.lines.setdefault(line.model, deque()).append(line)
        return pending

    @property
    def is_empty(self) -> bool:
        return not self.lines

    def peek(self, model: str) -> Line:
        return self.lines[model][0]

    def take(self, model: str) -> Line:
        """Remove the next line of ``model``."""
        lines = self.lines[model]
        line = lines.popleft()
        if not lines:
            del self.lines[model]
        return line

    def put_back(self, line: Line) -> None:
        """Add a line that was taken; it comes after the others."""
        self.lines.setdefault(line.model, deque()).append(line)


class Turns:
    """The lines of one model are together, so that models are not loaded in turns.

    Among the batches with lines of that model, the keys take turns, and the oldest batch of a
    key is first.
    """

    def __init__(self):
        self._model = ""
        self._model_since = 0.0
        self._turns = 0
        self._last_turn: dict[str, int] = {}  # of each key

    def next(self, batches: Iterable[Pending], now: float) -> tuple[Pending, str] | None:
        """The batch whose line is to begin now, and its model; None if no line waits.

        ``now`` is the caller's clock, in seconds.
        """
        waiting = [batch for batch in batches if not batch.is_empty]
        if not waiting:
            return None
        model = self._choose_model(waiting, now)
        fitting = [batch for batch in waiting if model in batch.lines]
        chosen = min(
            fitting, key=lambda batch: (self._last_turn.get(batch.key, 0), batch.number)
        )
        return chosen, model

    def note(self, key: str) -> None:
        """A line of ``key`` has begun."""
        self._turns += 1
        self._last_turn[key] = self._turns

    def _choose_model(self, waiting: list[Pending], now: float) -> str:
        models = sorted({model for batch in waiting for model in batch.lines})
        is_over = now - self._model_since >= MODEL_SECONDS
        if self._model in models and not (is_over and len(models) > 1):
            return self._model
        oldest = min(waiting, key=lambda batch: batch.number)
        later = [model for model in models if model > self._model]
        is_first = self._model_since == 0.0
        self._model = next(iter(oldest.lines)) if is_first else (later or models)[0]
        self._model_since = now
        return self._model
