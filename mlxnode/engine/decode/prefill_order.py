"""Which prompt is processed next. Plain Python, without mlx.

The keys take turns, the best priority almost always first. Of a key, the prompt with the fewest
remaining tokens is next, but no prompt is overtaken for ever.
"""

from collections.abc import Sequence
from itertools import count

from mlxnode.engine.decode.request import Request
from mlxnode.engine.fairness import SLOW_SHARE

# After this many shorter prompts of its key went first, the oldest prompt is next.
MAX_OVERTAKEN = 4
_MAX_KEYS = 1024  # then all keys begin again


class PrefillOrder:
    """The turns of the keys, and how often their oldest prompts were overtaken."""

    def __init__(self) -> None:
        self._turns = count(1)
        self._last_turn: dict[str, int] = {}  # by key
        self._num_overtakes: dict[str, int] = {}  # by key

    def next(self, ready: Sequence[Request], *, is_first: bool = True) -> Request | None:
        """The next of the ``ready`` prompts, which are in the order of their admission.

        If it is not the first of a pass, it has to fit the others: the shortest is next,
        whosever it is.
        """
        if not ready:
            return None
        if not is_first:
            return min(ready, key=_remaining)
        turn = next(self._turns)
        if turn % SLOW_SHARE:
            best = min(request.owner.priority for request in ready)
            ready = [request for request in ready if request.owner.priority == best]
        key = min(ready, key=lambda r: self._last_turn.get(r.owner.key, 0)).owner.key
        own = [request for request in ready if request.owner.key == key]
        if len(self._last_turn) > _MAX_KEYS:
            self._last_turn.clear()
            self._num_overtakes.clear()
        self._last_turn[key] = turn
        oldest, shortest = own[0], min(own, key=_remaining)
        overtakes = self._num_overtakes.get(key, 0)
        if shortest is oldest or overtakes >= MAX_OVERTAKEN:
            self._num_overtakes[key] = 0
            return oldest
        self._num_overtakes[key] = overtakes + 1
        return shortest


def _remaining(request: Request) -> int:
    return request.num_to_prefill
