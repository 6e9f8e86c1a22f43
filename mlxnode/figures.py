"""The figures of a running node: one snapshot, from which every report of the node is made.

The engine sends ``EngineFigures`` to the supervisor with each ``Pong``. The supervisor adds its
own and gives ``NodeFigures`` to whoever asks. Sizes are in bytes, times in seconds; a count
since the start begins again with a new incarnation of the engine.
"""

from typing import Literal

import msgspec

PressureStage = Literal["normal", "caches dropped", "admission paused", "aborting"]
ProcessState = Literal["starting", "ready", "not running"]
ModelState = Literal["unloaded", "loading", "loaded", "unloading"]
# Its body is read and its prompt made; it waits for its first token; it gets tokens.
RequestState = Literal["preparing", "waiting", "generating"]


class RunnerFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The work of one model. Tokens, steps and rows are counted since the start.

    ``steps`` are passes that generate text, and ``step_rows`` the sequences in all of them.
    """

    num_running: int = 0
    num_waiting: int = 0
    num_background: int = 0  # of those that run and wait
    steps: int = 0
    step_rows: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0  # of the drafted ones
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt tokens
    generated_tokens: int = 0
    prefix_bytes: int = 0
    prefix_entries: int = 0


class ModelFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One model that can be served. Two ids may have the same weights, and then the same work.

    ``same_as`` is the first id with the same weights; None: this is the first, or the only one.
    ``num_loads`` counts since the start of the engine. ``idle_seconds``: since the last request
    ended; None: requests run, or there was none. ``weight_bytes`` leaves out what a model that
    was loaded before holds already; an unloaded model has none.
    """

    id: str
    weight_bytes: int
    work: RunnerFigures
    state: ModelState = "loaded"
    is_pinned: bool = False
    num_loads: int = 0
    idle_seconds: float | None = None
    same_as: str | None = None


class MemoryFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The memory of the engine."""

    limit: int
    active: int  # of MLX's arrays
    peak: int  # of active, since the models were loaded
    buffer_cache: int  # freed, and kept by MLX
    buffer_cache_limit: int
    wired_limit: int
    footprint: int  # of the process, as the system counts it
    kv_total: int  # for KV caches, prefixes included
    kv_claimed: int
    pressure: PressureStage


class RankFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One rank of an engine on several machines."""

    rank: int
    host: str
    state: Literal["starting", "ready", "lost"]
    memory_bytes: int = 0  # that MLX uses there
    reason: str = ""  # why it is lost


class EngineFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the engine reports once a second."""

    memory: MemoryFigures
    models: list[ModelFigures]

    @property
    def distinct(self) -> list[ModelFigures]:
        """One model for each set of weights: sums of work are of these."""
        return [model for model in self.models if model.same_as is None]


class ProcessFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One child of the supervisor."""

    name: str
    state: ProcessState
    pid: int | None
    starts: int
    uptime: float | None  # of this incarnation


class RequestFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One request that a worker is answering. ``id`` is the worker's, unique in the node.

    ``request_id`` is the x-request-id, which a client may choose. ``key`` is the id of the key.
    """

    id: str
    request_id: str
    key: str
    path: str  # of the route
    model: str | None  # None: not known yet
    state: RequestState
    seconds: float  # since its head came
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt
    completion_tokens: int = 0
    is_stream: bool = False
    is_background: bool = False


class TrafficRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The requests of one key or to one model that ended in the window, and their tokens."""

    id: str
    requests: int
    prompt_tokens: int
    cached_tokens: int  # of the prompt tokens
    completion_tokens: int


class Rates(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Tokens in a second, of the last seconds. ``models``: generated, by id."""

    prompt: float = 0.0  # computed; those from a cache are not counted
    generated: float = 0.0
    models: dict[str, float] = {}


class TrafficFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The last ``seconds`` seconds. The keys and models with the most tokens come first.

    ``first_token_median`` and ``first_token_p95``: seconds from the head of a request to its
    first token. ``inter_token_median`` and ``inter_token_p95``: seconds between two tokens of a
    sequence, the mean of each request. None: no text was generated. ``requests_per_second`` is
    of the last seconds. ``prefix_share``: of the prompt tokens, those from a cache; None: there
    were none.
    """

    seconds: int
    rates: Rates
    keys: list[TrafficRow]
    models: list[TrafficRow]
    first_token_median: float | None = None
    first_token_p95: float | None = None
    inter_token_median: float | None = None
    inter_token_p95: float | None = None
    requests_per_second: float = 0.0
    prefix_share: float | None = None


class Moment(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The whole node at one moment, one number for each series.

    Rates are of the last seconds: tokens and requests in a second. Times to the first token and
    between tokens are medians of the last minute, ``prefix_share`` is of the last minute; None:
    there was no such request. What the engine counts is 0 while there is none.
    """

    generated_tokens: float = 0.0
    prompt_tokens: float = 0.0  # computed; those from a cache are not counted
    requests: float = 0.0  # that ended
    first_token: float | None = None
    inter_token: float | None = None
    in_flight: int = 0  # requests, in the workers
    running: int = 0  # sequences, in the engine: the rows of all batches
    waiting: int = 0
    background: int = 0  # of those that run and wait
    kv_claimed: int = 0
    prefix_bytes: int = 0
    prefix_share: float | None = None
    buffer_cache: int = 0
    memory: int = 0  # of the engine: its arrays and buffers, or its process if that is larger


class NodeFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The whole node. ``engine`` is None until the engine has reported once.

    ``failed_models`` has the models that cannot be served, by id, each with the reason.
    ``requests`` are those that run, the oldest first, as far as they are told: ``num_requests``
    is the number of all. ``fits`` says in a few words whether each model fits into memory, by
    id, as far as that is known; ``aliases`` are more names of models: name -> id.
    """

    version: str
    address: str
    pid: int
    uptime: float
    descriptor_limit: int
    is_draining: bool
    processes: list[ProcessFigures]
    failed_models: dict[str, str]
    engine: EngineFigures | None
    traffic: TrafficFigures | None = None
    now: Moment = Moment()
    num_requests: int = 0
    requests: list[RequestFigures] = []
    fits: dict[str, str] = {}
    ranks: list[RankFigures] = []  # empty: the engine is on one machine
    aliases: dict[str, str] = {}
    history: list[Moment] = []
    shared_limits: bool | None = None  # True if Redis answers; None: this node counts alone
