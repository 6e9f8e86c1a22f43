"""What is measured: figures of a server under a load, and their medians."""

import statistics
from collections.abc import Iterable
from typing import Literal, NamedTuple

Kind = Literal["chat", "embedding"]
KINDS: tuple[Kind, ...] = ("chat", "embedding")
Name = Literal["tokens/s", "TTFT", "TPOT", "ITL p95", "texts/s"]
UNITS: dict[Name, str] = {
    "tokens/s": "tokens/s",
    "TTFT": "ms",
    "TPOT": "ms",
    "ITL p95": "ms",
    "texts/s": "texts/s",
}
MORE_IS_BETTER: frozenset[Name] = frozenset({"tokens/s", "texts/s"})


class Figure(NamedTuple):
    """A value of one server with ``num_clients`` requests at a time: of a round, or a median.

    Times are in milliseconds.
    """

    server: str
    kind: Kind
    num_clients: int
    name: Name
    value: float


def kind_of(type: str) -> Kind:
    """The kind of load for a model of this type.

    Raises:
        ValueError: there is none.
    """
    return KINDS[KINDS.index(type)]


def medians(figures: Iterable[Figure]) -> list[Figure]:
    """One figure in place of those of all rounds."""
    values: dict[tuple[str, Kind, int, Name], list[float]] = {}
    for figure in figures:
        values.setdefault(figure[:4], []).append(figure.value)
    return [Figure(*key, statistics.median(found)) for key, found in values.items()]


def ratio(ours: Figure, figures: Iterable[Figure], server: str) -> float | None:
    """``ours`` over the same figure of another server; None if there is none."""
    for theirs in figures:
        if theirs.server == server and theirs[1:4] == ours[1:4] and theirs.value:
            return ours.value / theirs.value
    return None


def quantile(values: list[float], share: float) -> float:
    """The value that a ``share`` of ``values`` is below."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
