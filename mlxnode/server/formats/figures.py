"""What ``/v1/figures`` answers: everything live, as far as the key may see it.

Sizes are in bytes, times in seconds. What is the node's as a whole, every key sees; of models,
requests and usage, an API key sees its own.
"""

from typing import Literal

from msgspec import Struct

from mlxnode.figures import (
    ModelState,
    Moment,
    ProcessFigures,
    RankFigures,
    RequestFigures,
    TrafficRow,
)
from mlxnode.server.formats.body import Body


class FiguresQuery(Struct):
    """``once``: one JSON document instead of a stream of events."""

    once: bool = False


class Limits(Struct, frozen=True, kw_only=True):
    """What the engine has: 0 while there is no engine. ``pressure``: what it does about it."""

    memory: int = 0
    kv_total: int = 0  # for KV caches, prefixes included
    buffer_cache: int = 0
    prefix_entries: int = 0  # that are cached now
    pressure: Literal["normal", "caches dropped", "admission paused", "aborting"] = "normal"


class Latency(Struct, frozen=True, kw_only=True):
    """Of the requests that ended in the last ``window`` seconds; None: no text was generated.

    ``inter_token``: between two tokens of a sequence, the mean of each request.
    """

    window: int = 60
    first_token_median: float | None = None
    first_token_p95: float | None = None
    inter_token_median: float | None = None
    inter_token_p95: float | None = None


class LiveModel(Struct, frozen=True, kw_only=True):
    """One model. ``reason`` says why it failed, and ``fit`` whether it fits into memory."""

    id: str
    state: ModelState | Literal["failed"]
    is_pinned: bool = False
    idle_seconds: float | None = None  # since the last request; None: busy, or none so far
    weight_bytes: int = 0  # 0: it is not loaded
    fit: str | None = None
    reason: str | None = None
    running: int = 0  # sequences: the rows of its batch
    waiting: int = 0
    background: int = 0  # of those that run and wait
    generated_tokens: float = 0.0  # in a second
    prefix_bytes: int = 0
    prefix_entries: int = 0


class History(Struct, frozen=True, kw_only=True):
    """Series of numbers, the oldest first, by the names of ``now``; the last is of ``now``."""

    interval: float = 1.0  # seconds between two numbers
    series: dict[str, list[float | None]] = {}


class Figures(Struct, tag_field="object", tag="figures", frozen=True, kw_only=True):
    """The figures of one moment. Its event has the name ``figures``.

    ``sees_all``: False if models, requests and usage are those of one API key alone.
    ``history`` is in the first event of a stream, and in the document of ``?once=true``.
    ``keys`` is the use of the last ``latency.window`` seconds. ``requests`` are in flight, the
    oldest first; there may be more of them: ``num_requests``. ``processes`` is empty unless
    ``sees_all``.
    """

    time: float  # seconds since 1970
    sees_all: bool
    key: str  # the id of the key that asks
    version: str
    uptime: float
    is_draining: bool
    now: Moment
    latency: Latency
    limits: Limits
    models: list[LiveModel]
    keys: list[TrafficRow]
    num_requests: int
    requests: list[RequestFigures]
    processes: list[ProcessFigures] = []
    ranks: list[RankFigures] = []  # of an engine on several machines; unless sees_all, empty
    history: History | None = None


class RequestList(Struct, frozen=True):
    """The requests in flight, the oldest first; there may be more: ``num_requests``."""

    data: list[RequestFigures]
    num_requests: int
    object: Literal["list"] = "list"


class CancelBody(Body):
    """An object without fields."""


class Cancelling(RequestFigures, frozen=True, kw_only=True):
    """A request that ends now. Its client gets an error with the code ``request_cancelled``."""

    status: Literal["cancelling"] = "cancelling"
