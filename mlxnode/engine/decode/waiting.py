"""The requests that wait for a row, and which of them is next. Plain Python, without mlx.

Requests of the same key and priority are a line. In a line, the HTTP requests (calls) come in
the order of their arrival; one call can have many sequences. Of ten thousand requests, each can
be added and removed at once.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator

from mlxnode.engine.decode.request import Request
from mlxnode.engine.fairness import FairClock
from mlxnode.engine.work import Call, RequestKey

Sequences = OrderedDict[RequestKey, Request]
Line = tuple[int, str]  # priority and key


class WaitingRequests:
    """The queue of one model."""

    def __init__(self) -> None:
        self._lines: dict[Line, OrderedDict[Call, Sequences]] = {}
        self._num_waiting: Counter[str] = Counter()  # by key
        self._num = 0
        self._clock = FairClock()

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[Request]:
        for calls in self._lines.values():
            for sequences in calls.values():
                yield from sequences.values()

    def add(self, request: Request) -> None:
        """Queue a request behind those of its call."""
        calls = self._lines.setdefault(_line_of(request), OrderedDict())
        calls.setdefault(request.owner.call, OrderedDict())[request.key] = request
        self._num_waiting[request.owner.key] += 1
        self._num += 1

    def put_back(self, request: Request) -> None:
        """Queue a request that has lost its row: it is the first of its line."""
        self.charge(request)
        self.add(request)
        calls = self._lines[_line_of(request)]
        calls.move_to_end(request.owner.call, last=False)
        calls[request.owner.call].move_to_end(request.key, last=False)

    def remove(self, request: Request) -> None:
        """Remove a request."""
        line, owner = _line_of(request), request.owner
        calls = self._lines[line]
        del calls[owner.call][request.key]
        if not calls[owner.call]:
            del calls[owner.call]
        if not calls:
            del self._lines[line]
        self._num_waiting[owner.key] -= 1
        if not self._num_waiting[owner.key]:
            del self._num_waiting[owner.key]
        self._num -= 1

    def take(self, request: Request) -> None:
        """Remove a request that gets a row: its key is served."""
        self.remove(request)
        self._clock.serve(request.owner.key)

    def charge(self, request: Request) -> None:
        """A request has lost its row, or has ended: its key has used what it computed."""
        self._clock.charge(request.owner.key, request.num_used, request.owner.weight)

    def clear(self) -> None:
        self._lines.clear()
        self._num_waiting.clear()
        self._num = 0

    def is_full_for(self, request: Request, size: int) -> bool:
        """True if the key and the call of ``request`` have their share of a queue of ``size``.

        The keys share the places evenly, each key among its calls. Who waits with less than
        its share finds a place beyond the size. A key or a call alone has all places.
        """
        if self._num < size:
            return False
        key, call = request.owner.key, request.owner.call
        lines = [calls for (_, name), calls in self._lines.items() if name == key]
        own = size // (len(self._num_waiting) + (key not in self._num_waiting))
        num_of_call = sum(len(calls[call]) for calls in lines if call in calls)
        num_calls = sum(map(len, lines)) + (num_of_call == 0)
        return self._num_waiting[key] >= own and num_of_call >= own // num_calls

    def next(self, admitted: Collection[Request], *, is_last_row: bool) -> Request | None:
        """The request that gets the next row: of the key with the fewest rows for its weight.

        Among equals it is the key that is behind in time; of the key, the call with the fewest
        rows, and then the first. The best priority comes first, but the last of several rows
        is for the others, so that they do not wait for ever.
        """
        if not self._lines:
            return None
        best = min(priority for priority, _ in self._lines)
        lines = [line for line in self._lines if line[0] == best]
        if is_last_row and admitted and all(r.owner.priority <= best for r in admitted):
            lines = [line for line in self._lines if line[0] > best] or lines
        line = lines[0] if len(lines) == 1 else self._least_served(lines, admitted)
        return self._first_of(line, admitted)

    def _least_served(self, lines: list[Line], admitted: Collection[Request]) -> Line:
        rows = Counter(request.owner.key for request in admitted)
        used: Counter[str] = Counter()
        for request in admitted:
            used[request.owner.key] += request.num_used

        def rank(line: Line) -> tuple[float, float]:
            _, key = line
            weight = self._any_of(line).owner.weight
            return rows[key] / weight, self._clock.time_of(key) + used[key] / weight

        return min(lines, key=rank)

    def _first_of(self, line: Line, admitted: Collection[Request]) -> Request:
        calls = self._lines[line]
        rows = Counter(request.owner.call for request in admitted)
        fewest = next((call for call in calls if not rows[call]), None)
        if fewest is None:  # all of them have rows, so they are few
            fewest = min(calls, key=rows.__getitem__)
        return next(iter(calls[fewest].values()))

    def _any_of(self, line: Line) -> Request:
        sequences = next(iter(self._lines[line].values()))
        return next(iter(sequences.values()))


def _line_of(request: Request) -> Line:
    return request.owner.priority, request.owner.key
