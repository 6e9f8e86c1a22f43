"""The messages of the control pipes, between the supervisor and its children."""

from typing import Literal

import msgspec

from mlxnode.config.certificate import Certificate
from mlxnode.config.keys import ApiKey
from mlxnode.config.tables import ModelType
from mlxnode.figures import EngineFigures, RankFigures, RequestFigures
from mlxnode.messages.message import Message
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel

# --- supervisor to child ------------------------------------------------------------


class Ping(Message, frozen=True):
    """The main loop of the child, not a helper thread, answers with a ``Pong``."""

    sequence: int


class Connect(Message, frozen=True):
    """A new data pipe. Its file descriptor follows on the control pipe (``pipe.send_fd``)."""

    pipe_id: int


class Drain(Message, frozen=True):
    """To a worker: accept nothing new, finish running requests within ``timeout`` s, exit.

    For ``delay`` seconds before that, it serves as before, and /health answers 503.
    """

    timeout: float
    delay: float = 0.0


class Stop(Message, frozen=True):
    """Exit now."""


class Limit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The bucket that is closest to its end, as the x-ratelimit headers report it."""

    limit: int
    remaining: int
    reset: float  # seconds until the bucket is full


class Reserved(Message, frozen=True):
    """The answer to ``Reserve``: granted if ``refused`` is None.

    "unreachable": the limits that several nodes share cannot be read now.
    """

    ticket: int
    refused: Literal["requests", "tokens", "unreachable"] | None
    retry_after: float | None  # seconds until the same request would be granted; None: never
    requests: Limit | None
    tokens: Limit | None


class FailedModels(Message, frozen=True):
    """To a worker: the models that cannot be served now, by id, each with the reason.

    It comes before the first ``Connect``, and again whenever a model fails or is served again.
    """

    reasons: dict[str, str]


class Access(Message, frozen=True, kw_only=True):
    """To a worker: who may enter from now on, and the certificate of new connections.

    ``is_limited``: a rate limit can refuse a request. ``certificate`` None: plain HTTP.
    ``cors_origins``: the origins whose web pages may call the API; none without CORS.
    """

    keys: list[ApiKey]
    is_limited: bool = False
    certificate: Certificate | None = None
    cors_origins: list[str] = []


class Models(Message, frozen=True, kw_only=True):
    """The models of the node from now on: its configuration or the disk has changed.

    ``types`` has all configured and found models by id, also those that cannot be described and
    so are not in ``models``. ``aliases`` are more names of them. The engine unloads a model
    that is gone or different once its requests have ended.
    """

    models: list[ServedModel]
    types: dict[str, ModelType]
    aliases: dict[str, str] = {}


class Fits(Message, frozen=True):
    """To a worker: whether each model fits into memory, by id, as far as it is known."""

    verdicts: dict[str, Weighed]


class EngineSilent(Message, frozen=True):
    """To a worker: the engine has not answered for ``seconds``; None: it answers again."""

    seconds: float | None


class Ranks(Message, frozen=True):
    """The ranks of an engine on several machines: from the engine, and on to the workers.

    A worker gets only changes of their states.
    """

    ranks: list[RankFigures]


class Cancel(Message, frozen=True):
    """End a request: ``RequestFigures.id``. A worker asks for it, and all workers are told."""

    id: str


class Wake(Message, frozen=True):
    """There may be work for the batches: from a worker, and to the process that runs them."""


class Suspects(Message, frozen=True):
    """To the engine: fingerprints of requests that were in a step when an engine died.

    Those in ``refused`` are not run. At most ``limit`` of those in ``quarantined`` run at the
    same time, so that another death tells more about them. If one of ``watched`` ends well, the
    engine reports it with ``Cleared``.
    """

    refused: list[bytes]
    quarantined: list[bytes]
    limit: int
    watched: list[bytes]


_Orders = Ping | Connect | Drain | Stop | Cancel | Wake
_News = FailedModels | Access | Models | Fits | EngineSilent | Suspects | Ranks
SupervisorToChild = _Orders | _News | Reserved


# --- child to supervisor ------------------------------------------------------------


class Pong(Message, frozen=True):
    """The answer to ``Ping``. The engine adds its figures once it has loaded its models.

    A worker adds the requests that it answers, the oldest first, and the number of all.
    """

    sequence: int
    figures: EngineFigures | None = None
    num_requests: int = 0
    requests: list[RequestFigures] = []


class Progress(Message, frozen=True):
    """A child that loads goes on: it has done some work since its last message.

    ``text`` is a line for the user who started the node. ``model`` is the id of the model
    whose loading begins now.
    """

    text: str = ""
    model: str | None = None


class Ready(Message, frozen=True):
    """The child can be connected. It cannot serve the models in ``failed``: id -> reason."""

    failed: dict[str, str] = {}


class Loaded(Message, frozen=True):
    """The engine has loaded this model, which ``Progress`` has announced."""

    model: str


class LoadFailed(Message, frozen=True):
    """The models that the engine cannot load: id -> reason. They replace those of ``Ready``."""

    failed: dict[str, str]


class Connected(Message, frozen=True):
    """The child has its end of the data pipe: the supervisor may close its own copy."""

    pipe_id: int


class Fatal(Message, frozen=True):
    """The child cannot start, for a reason that the user can remove."""

    message: str


class Reserve(Message, frozen=True):
    """May ``key`` make one request to ``model`` now?

    The request uses ``tokens`` tokens in any case, and probably ``expected`` more.
    """

    ticket: int  # unique among the tickets of one worker
    key: str  # the id of the key, not the key
    model: str
    tokens: int
    expected: int


class Used(Message, frozen=True):
    """The request of the granted ``ticket`` runs, and has used ``tokens`` so far."""

    ticket: int
    tokens: int


class Settle(Message, frozen=True):
    """The request of the granted ``ticket`` used ``tokens``. The remaining tokens are free."""

    ticket: int
    tokens: int


class Usage(Message, frozen=True):
    """A request of ``key`` to ``model`` has ended, and has used these numbers of tokens.

    ``first_output``: seconds from the head of the request to the engine's first output.
    ``inter_token``: seconds between two tokens of a sequence, the mean of the request.
    """

    key: str  # the id of the key, not the key
    model: str
    prompt: int
    cached: int  # of the prompt
    completion: int
    first_output: float | None = None
    inter_token: float | None = None


class Busy(Message, frozen=True):
    """Requests run in this worker from now on, or none does."""

    is_busy: bool


class StepFailed(Message, frozen=True):
    """A step of the engine raised an exception; ``fingerprints`` are those of its requests."""

    fingerprints: list[bytes]


class Cleared(Message, frozen=True):
    """A request that the engine watches has ended well: ``Suspects.watched``."""

    fingerprint: bytes


_Life = Pong | Progress | Ready | Loaded | LoadFailed | Connected | Fatal | Ranks
_Steps = StepFailed | Cleared
Booking = Reserve | Used | Settle | Usage  # what requests cost
ChildToSupervisor = _Life | _Steps | Booking | Busy | Cancel | Wake
