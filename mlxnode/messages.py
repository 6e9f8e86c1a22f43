"""What the processes say to each other: small typed structs, sent as msgpack.

Three conversations, each a tagged union:

- ``WorkerToEngine`` and ``EngineToWorker``, over one data pipe per worker and engine.
- ``SupervisorToChild`` and ``ChildToSupervisor``, over one control pipe per child.

A ``uid`` is chosen by the worker and is unique among the requests of its pipe.
"""

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length"]


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """Base of every message; encoded as an array that begins with the class name."""


class Sampling(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How the next token is drawn.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 switch the
    respective truncation off. Without a ``seed`` the engine picks one at random. A
    ``grammar`` is what the text must follow, in llguidance's JSON form, from its beginning or
    from behind the first occurrence of the tokens ``grammar_after``. Penalties and
    ``logit_bias`` are explained in ``kernels/sample.py``. Stop ids are held back for the
    first ``min_tokens`` tokens. ``top_logprobs`` asks for the log-probability of each
    token and for so many most likely ones in its place; without it, neither need be true.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None  # 0 <= seed < 2**64
    grammar: str | None = None
    grammar_after: list[int] = []
    logit_bias: dict[int, float] = {}
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    min_tokens: int = 0
    top_logprobs: int | None = None  # at most 20
    scores_prompt: bool = False  # with the first token, tell the prompt's log-probabilities


# --- worker to engine ---------------------------------------------------------------


class Generate(Message):
    """Continue ``prompt`` by at most ``max_tokens`` tokens."""

    uid: int
    model: str
    prompt: list[int]
    max_tokens: int
    stop_ids: list[int]  # end-of-sequence ids; the one that ends a text is not reported
    sampling: Sampling


class Embed(Message):
    """Embed each of ``inputs``, token ids with the model's special tokens in place."""

    uid: int
    model: str
    inputs: list[list[int]]
    dimensions: int | None = None  # truncate to that many, then normalise again


class Abort(Message):
    """Stop working on a request; nothing more is sent for it."""

    uid: int


WorkerToEngine = Generate | Embed | Abort


# --- engine to worker ---------------------------------------------------------------


class Update(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """New tokens of one request. The update with a ``finish`` is its last.

    Log-probabilities are natural ones, of the model's raw logits.
    """

    uid: int
    tokens: list[int]
    logprobs: list[float]  # of each token
    finish: FinishReason | None = None
    top_logprobs: list[dict[int, float]] = []  # of each token, if asked for: the most likely
    # If asked for, with the first token: of each prompt token but the first.
    prompt_logprobs: list[float] = []
    prompt_top_logprobs: list[dict[int, float]] = []
    num_cached: int = 0  # tokens of the prompt that were known from other texts


class Tokens(Message):
    """What one engine step produced for one worker."""

    updates: list[Update]


class Embedded(Message):
    """The vectors of one ``Embed``: float32, little-endian, row after row."""

    uid: int
    dimensions: int
    vectors: bytes


class Failed(Message):
    """A request that ended without a result.

    ``overloaded``: refused for lack of room, may be tried again. ``too_large``: needs more
    memory than the node has, will never fit. ``internal``: the engine's fault, alone or with
    the other requests of a failed step.
    """

    uid: int
    reason: Literal["overloaded", "too_large", "internal"]
    message: str


EngineToWorker = Tokens | Embedded | Failed


# --- supervisor to child ------------------------------------------------------------


class Ping(Message):
    """Answered with a ``Pong`` by the child's main loop, not by a helper thread."""

    sequence: int


class Connect(Message):
    """A new data pipe; its file descriptor follows on the control pipe (``pipes.send_fd``).

    ``peer`` names the worker (to the engine), and ``generation`` counts pipes, so that
    the two sides and the supervisor mean the same one.
    """

    peer: int
    generation: int


class Drain(Message):
    """To a worker: accept nothing new, finish what runs within ``timeout`` seconds, exit."""

    timeout: float


class Stop(Message):
    """Exit now."""


class Reserved(Message):
    """The answer to ``Reserve``: granted when ``refused`` is None."""

    ticket: int
    refused: Literal["requests", "tokens"] | None
    retry_after: float  # seconds until the same request would be granted; 0 for now or never
    requests: "Limit | None"
    tokens: "Limit | None"


class Limit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The tightest bucket of its kind, as the x-ratelimit headers tell it."""

    limit: int
    remaining: int
    reset: float  # seconds until the bucket is full


SupervisorToChild = Ping | Connect | Drain | Stop | Reserved


# --- child to supervisor ------------------------------------------------------------


class Pong(Message):
    sequence: int


class Progress(Message):
    """A line about loading, for the person who started the node."""

    text: str


class Ready(Message):
    """The child has loaded what it needs and can be connected."""


class Connected(Message):
    """The child holds its end of that pipe: the supervisor may close its own copy."""

    generation: int


class Fatal(Message):
    """The child cannot start, for a reason that the person can mend."""

    message: str


class Reserve(Message):
    """May ``key`` make one request to ``model`` of at most ``tokens`` tokens now?"""

    ticket: int  # unique among the tickets of that worker
    key: str  # its id, not itself
    model: str
    tokens: int


class Settle(Message):
    """The granted ``ticket`` used that many ``tokens``; the rest goes back."""

    ticket: int
    tokens: int


ChildToSupervisor = Pong | Progress | Ready | Connected | Fatal | Reserve | Settle
