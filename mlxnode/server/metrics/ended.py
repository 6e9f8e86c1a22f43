"""A request that has ended, as it is counted."""

from typing import NamedTuple


class Ended(NamedTuple):
    """A request whose answer has ended. Times in seconds; None does not apply.

    ``route`` and ``method`` are None without a route, ``status`` without an answer. ``tokens``
    are those of the prompt, those of them that were cached, and those generated; None: it
    counts nowhere.
    """

    route: str | None
    method: str | None
    status: int | None
    outcome: str
    model: str | None
    key: str | None
    error: str | None
    seconds: float
    asked: float | None
    queued: float | None
    computed: float | None
    first_token: float | None
    tokens: tuple[int, int, int] | None
    num_keep_alives: int = 0
