"""The messages of the data pipes, between the workers and the engine."""

from typing import Literal

import msgspec

from mlxnode.figures import ModelState
from mlxnode.messages.message import Message

FinishReason = Literal["stop", "length"]


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
    ``background`` work is computed only while there is no other, whatever its priority.
    """

    uid: int
    key: str = ""  # the id of the API key, not the key
    weight: float = 1.0
    priority: int = 0
    call: int = 0
    background: bool = False


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


class Load(Message, frozen=True):
    """Load a model, if it is not loaded, and set whether it is pinned; None: as it was.

    The answer is ``Done`` or ``Failed``.
    """

    uid: int
    model: str
    pin: bool | None = None


class Unload(Message, frozen=True):
    """Unload a model once its requests have ended; requests that come later load it again.

    The answer is ``Done`` or ``Failed``.
    """

    uid: int
    model: str


WorkerToEngine = Generate | Embed | Abort | Load | Unload


# --- engine to worker ---------------------------------------------------------------


class Token(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One token with its log-probability: natural, of the raw logits of the model.

    ``logprob`` and ``top_logprobs`` (of the most likely tokens at the same position) are
    meaningful only if the request asked for them. A prompt's first token has no ``logprob``.
    """

    id: int
    logprob: float | None
    top_logprobs: dict[int, float] | None = None


class Timing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The seconds that a request spent in the engine before its first output.

    ``queued``: until its computation began, the loading of its model included. ``computed``:
    from then on; of a text, the prefill.
    """

    queued: float
    computed: float


class Update(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """New tokens of one request. The update with a ``finish`` is the last of a request.

    The first one with tokens has the ``timing``.
    """

    uid: int
    tokens: list[Token] = []
    finish: FinishReason | None = None
    prompt: list[Token] | None = None  # the scored prompt, once, with the first tokens
    num_cached: int = 0  # prompt tokens that came from the prefix cache
    timing: Timing | None = None


class Tokens(Message, frozen=True):
    """The tokens of one engine step for one worker."""

    updates: list[Update]


class Embedded(Message, frozen=True):
    """The vectors of one ``Embed``: float32, little-endian, row by row."""

    uid: int
    dimensions: int
    vectors: bytes
    timing: Timing | None = None


class Failed(Message, frozen=True):
    """A request ended without a result.

    ``overloaded``: there is no room now; the request can be tried again. ``too_large``: the
    request needs more memory than the node has. ``internal``: the engine failed on this
    request, or on a step that this request was part of. ``poisonous``: engines died in steps
    of this request, which is not tried again. ``model``: its model cannot be loaded.
    """

    uid: int
    reason: Literal["overloaded", "too_large", "internal", "poisonous", "model"]
    message: str


class Done(Message, frozen=True):
    """A ``Load`` or ``Unload`` has ended well."""

    uid: int


class ModelStates(Message, frozen=True):
    """The state of each model of the engine, by id: first of all, and after each change."""

    states: dict[str, ModelState]
    pinned: list[str] = []


EngineToWorker = Tokens | Embedded | Failed | Done | ModelStates
