"""Which requests give up their rows: for one that has a right to a row, or for memory. No mlx.

A key without a row gets one of the key that has the most for its weight, and a call without a
row one of the call of the same key that has the most. Who has one row keeps it. A request of a
better priority gets the rows of worse ones, of which one is left.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence

from mlxnode.engine.decode.request import Request


def displaceable(
    request: Request, admitted: Sequence[Request], num_rows: int
) -> Iterator[Request]:
    """The requests that can give up their rows for ``request``, the first ones first.

    ``admitted`` have the ``num_rows`` rows or a part of them, in the order of their admission.
    """
    owner = request.owner
    running = [other for other in admitted if not other.has_ended]
    worse = [other for other in running if other.owner.priority > owner.priority]
    num_left = 0 if num_rows == 1 else 1
    for other in _cheapest(worse)[: max(len(worse) - num_left, 0)]:
        running.remove(other)
        yield other
    peers = [other for other in running if other.owner.priority >= owner.priority]
    if all(other.owner.key != owner.key for other in running):
        yield from _of_the_most(peers, lambda other: other.owner.key, lambda o: o.owner.weight)
    elif all(other.owner.call != owner.call for other in running):
        own = [other for other in peers if other.owner.key == owner.key]
        yield from _of_the_most(own, lambda other: other.owner.call, lambda _: 1.0)


def expendable(admitted: Sequence[Request]) -> Iterator[Request]:
    """All of ``admitted``, in the order in which they give up their rows for memory.

    The worst priority is first. Of each priority, the keys give up what they have beyond one
    row; then those that were admitted last.
    """
    running = [request for request in admitted if not request.has_ended]
    for priority in sorted({request.owner.priority for request in running}, reverse=True):
        rows = [request for request in running if request.owner.priority == priority]
        several = list(_of_the_most(rows, lambda r: r.owner.key, lambda r: r.owner.weight))
        yield from several
        yield from (request for request in reversed(rows) if request not in several)


def _of_the_most(
    rows: Sequence[Request],
    holder_of: Callable[[Request], Hashable],
    weight_of: Callable[[Request], float],
) -> Iterator[Request]:
    """One row after the other of who has the most for its weight; each keeps one."""
    counts = Counter(map(holder_of, rows))
    left = _cheapest(rows)
    while more := [request for request in left if counts[holder_of(request)] > 1]:
        taken = max(more, key=lambda r: counts[holder_of(r)] / weight_of(r))
        counts[holder_of(taken)] -= 1
        left.remove(taken)
        yield taken


def _cheapest(rows: Sequence[Request]) -> list[Request]:
    """The rows with the fewest tokens in their KV cache first, which may have to be computed
    again; then those that were admitted last."""
    return sorted(reversed(rows), key=lambda request: request.num_computed)
