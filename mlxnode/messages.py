"""The messages between the processes: small typed structs, sent as msgpack.

There are three conversations, each a tagged union:

- ``WorkerToEngine`` and ``EngineToWorker``, over one data pipe for each worker and engine.
- ``SupervisorToChild`` and ``ChildToSupervisor``, over one control pipe for each child.

The supervisor knows which models cannot be served: it has found some itself, and each child
reports its own with ``Ready``. It sends all of them to the workers as ``FailedModels``.

A worker chooses the ``uid`` of a request. It is unique among the requests of one pipe.
"""

from typing import Literal

import msgspec

from mlxnode.config.certificate import Certificate
from mlxnode.config.keys import ApiKey
from mlxnode.figures import EngineFigures

FinishReason = Literal["stop", "length"]


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """Base of all messages. The encoding is an array whose first element is the class name."""


class ThinkingLimit(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """The end of a model's reasoning after ``max_tokens`` tokens of it.

    The reasoning begins after one of ``starts``, or with the answer if ``is_open``; it ends
    with one of ``ends``. Each is a sequence of places, with the ids that may stand there. At
    the limit, the engine writes ``closing`` itself. If the model then starts to reason again,
    ``reclosing`` ends that at once.
    """

    max_tokens: int
    is_open: bool
    starts: list[list[list[int]]]
    ends: list[list[list[int]]]
    closing: list[int]
    reclosing: list[int]


class Sampling(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """The sampling parameters of one request.

    ``temperature`` 0 means greedy. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 switch the
    truncation off. Without a ``seed``, the engine chooses one at random. The penalties and
    ``logit_bias`` are defined in ``kernels/sample.py``.

    ``grammar`` constrains the generated text; it has llguidance's JSON form. The constraint
    applies from the first token, or after the first of ``grammar_after``, before which the
    answer cannot end: sequences of places, with the ids that may stand there. Stop ids cannot
    be sampled in the first ``min_tokens`` tokens.

    ``top_logprobs`` requests the log-probability of each token, and of that many most likely
    tokens at the same position. Without it, the log-probabilities are not computed.
    ``scores_prompt`` requests the log-probabilities of the prompt tokens. ``thinking`` limits
    the reasoning.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None  # 0 <= seed < 2**64
    grammar: str | None = None
    grammar_after: list[list[list[int]]] = []
    logit_bias: dict[int, float] = {}
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    min_tokens: int = 0
    top_logprobs: int | None = None  # at most 20
    scores_prompt: bool = False
    thinking: ThinkingLimit | None = None


# --- worker to engine ---------------------------------------------------------------


class Work(Message, frozen=True, kw_only=True):
    """Base of what the engine computes for a client, with whom it is for.

    Work of a lower ``priority`` comes first. The keys share the engine by their ``weight``,
    and the HTTP requests of a key share what the key gets. The messages of one HTTP request
    have the same ``call``, a number that the worker chose; 0 is a request of its own.
    """

    uid: int
    key: str = ""  # the id of the API key, not the key
    weight: float = 1.0
    priority: int = 0
    call: int = 0


class Generate(Work, frozen=True, kw_only=True):
    """Generate at most ``max_tokens`` tokens after ``prompt``.

    ``borders`` are the lengths of the parts of the prompt that other prompts may start with:
    ends of messages. They are ascending, between 0 and the length of the prompt.
    """

    model: str
    prompt: list[int]
    max_tokens: int
    stop_ids: list[int]  # end-of-sequence ids; the id that ends a sequence is not reported
    sampling: Sampling
    borders: list[int] = []


class Embed(Work, frozen=True, kw_only=True):
    """Embed each of ``inputs``: token ids, with the special tokens of the model.

    An input of a reranker is a pair of texts, and its vector the score alone. ``starts`` are
    the first tokens of the second texts, if the model tells the two apart.
    """

    model: str
    inputs: list[list[int]]
    dimensions: int | None = None  # truncate the vectors to this size, then normalize again
    starts: list[int] = []


class Abort(Message, frozen=True):
    """Stop a request. The engine sends nothing more for it."""

    uid: int


WorkerToEngine = Generate | Embed | Abort


# --- engine to worker ---------------------------------------------------------------


class Token(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One token with its log-probability: natural, of the raw logits of the model.

    ``logprob`` and ``top_logprobs`` (of the most likely tokens at the same position) are
    meaningful only if the request asked for them. A prompt's first token has no ``logprob``.
    """

    id: int
    logprob: float | None
    top_logprobs: dict[int, float] | None = None


class Update(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """New tokens of one request. The update with a ``finish`` is the last of a request."""

    uid: int
    tokens: list[Token] = []
    finish: FinishReason | None = None
    prompt: list[Token] | None = None  # the scored prompt, once, with the first tokens
    num_cached: int = 0  # prompt tokens that came from the prefix cache


class Tokens(Message, frozen=True):
    """The tokens of one engine step for one worker."""

    updates: list[Update]


class Embedded(Message, frozen=True):
    """The vectors of one ``Embed``: float32, little-endian, row by row."""

    uid: int
    dimensions: int
    vectors: bytes


class Failed(Message, frozen=True):
    """A request ended without a result.

    ``overloaded``: there is no room now; the request can be tried again. ``too_large``: the
    request needs more memory than the node has. ``internal``: the engine failed on this
    request, or on a step that this request was part of. ``poisonous``: engines died in steps
    of this request, which is not tried again.
    """

    uid: int
    reason: Literal["overloaded", "too_large", "internal", "poisonous"]
    message: str


EngineToWorker = Tokens | Embedded | Failed


# --- supervisor to child ------------------------------------------------------------


class Ping(Message, frozen=True):
    """The main loop of the child, not a helper thread, answers with a ``Pong``."""

    sequence: int


class Connect(Message, frozen=True):
    """A new data pipe. Its file descriptor follows on the control pipe (``pipe.send_fd``)."""

    pipe_id: int


class Drain(Message, frozen=True):
    """To a worker: accept nothing new, finish running requests within ``timeout`` s, exit."""

    timeout: float


class Stop(Message, frozen=True):
    """Exit now."""


class Limit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The bucket that is closest to its end, as the x-ratelimit headers report it."""

    limit: int
    remaining: int
    reset: float  # seconds until the bucket is full


class Reserved(Message, frozen=True):
    """The answer to ``Reserve``: granted if ``refused`` is None."""

    ticket: int
    refused: Literal["requests", "tokens"] | None
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
    """

    keys: list[ApiKey]
    is_limited: bool = False
    certificate: Certificate | None = None


class EngineSilent(Message, frozen=True):
    """To a worker: the engine has not answered for ``seconds``; None: it answers again."""

    seconds: float | None


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


_Orders = Ping | Connect | Drain | Stop
SupervisorToChild = _Orders | Reserved | FailedModels | Access | EngineSilent | Suspects


# --- child to supervisor ------------------------------------------------------------


class Pong(Message, frozen=True):
    """The answer to ``Ping``. The engine adds its figures once it has loaded its models."""

    sequence: int
    figures: EngineFigures | None = None


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
    """A request of ``key`` to ``model`` has ended, and has used these numbers of tokens."""

    key: str  # the id of the key, not the key
    model: str
    prompt: int
    cached: int  # of the prompt
    completion: int


class Busy(Message, frozen=True):
    """Requests run in this worker from now on, or none does."""

    is_busy: bool


class StepFailed(Message, frozen=True):
    """A step of the engine raised an exception; ``fingerprints`` are those of its requests."""

    fingerprints: list[bytes]


class Cleared(Message, frozen=True):
    """A request that the engine watches has ended well: ``Suspects.watched``."""

    fingerprint: bytes


_Life = Pong | Progress | Ready | Connected | Fatal | StepFailed | Cleared
ChildToSupervisor = _Life | Reserve | Used | Settle | Usage | Busy
