"""Where prefill takes snapshots of a prompt. Plain Python, without mlx arrays.

A chunk ends at each of these lengths, so there are few. They are the borders of messages where
other prompts are likely to part from this one, lengths where a prompt is known to part, and
between them one every ``INTERVAL`` tokens.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# No hit recomputes more tokens. Closer ones would cost memory: a snapshot of a hybrid model is
# as large as the keys and values of some thousand tokens.
INTERVAL = 512
NEAR = 64  # tokens; a chunk of so few is hardly faster than one of more
NUM_LAST = 3  # borders at the end: before the last message, after it, before an answer begins
MAX_FORKS = 4


class Stop(NamedTuple):
    """A length at which prefill takes a snapshot."""

    length: int
    is_border: bool  # False: one of those between


def plan(
    start: int, end: int, borders: Sequence[int], forks: Iterable[int] = (), whole: int = 0
) -> list[Stop]:
    """The stops after ``start`` and before ``end``, where a snapshot is taken anyway.

    The first border is the end of the system prompt. A snapshot up to ``whole`` tokens serves
    all shorter lengths as well; that is worth a stop where it saves one of those between.
    """
    if whole < INTERVAL:
        whole = 0
    wanted = {*borders[:1], *borders[-NUM_LAST:], *forks}
    stops = [Stop(whole, is_border=True)] if start < whole < end else []
    last = max(start, whole)
    for border in [*sorted(border for border in wanted if last < border < end), end]:
        while border - last > INTERVAL:
            last += INTERVAL
            stops.append(Stop(last, is_border=border - last < NEAR))
        if border - last >= NEAR and border < end:
            stops.append(Stop(border, is_border=True))
            last = border
    return stops


def forks_of(prompt: list[int], others: Iterable[list[int]]) -> list[int]:
    """The lengths at which most of ``others`` part from ``prompt``."""
    counts = Counter(num_common(prompt, other) for other in others)
    del counts[len(prompt)]  # the same prompt does not part
    return [length for length, _ in counts.most_common(MAX_FORKS) if length >= NEAR]


def num_common(one: list[int], other: list[int]) -> int:
    """The length of the common prefix, by few comparisons of whole parts."""
    low, high = 0, min(len(one), len(other))
    if one[:NEAR] != other[:NEAR]:
        return 0  # too short to matter
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
