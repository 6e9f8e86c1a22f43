"""One generation request inside the engine."""

import enum
import math
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import mlx.core as mx

from mlxnode.engine.decode.grammar import GrammarState
from mlxnode.engine.decode.markers import Marker
from mlxnode.engine.decode.prompt_lookup import Drafter
from mlxnode.engine.decode.snapshot_plan import Stop
from mlxnode.engine.decode.thinking import Thinking
from mlxnode.engine.kvcache.entries import RunningEntry
from mlxnode.engine.kvcache.prompt_cache import PromptCache
from mlxnode.engine.work import Owner, RequestKey
from mlxnode.messages.data import FinishReason, Generate, Sampling, Timing, Token

_WORTH_WAITING = 64  # tokens of a prefix that another request is prefilling


class Stage(enum.Enum):
    """The stages of a request. ``Scheduler`` moves a request from one stage to the next."""

    WAITING = enum.auto()  # in the queue
    ADMITTED = enum.auto()  # has memory; no token of its prompt is processed yet
    PREFILLING = enum.auto()  # has a KV cache of its own
    PREFILLED = enum.auto()  # the prompt is complete; no token is sampled yet
    RUNNING = enum.auto()  # a row of the batch
    FINISHED = enum.auto()  # has no memory any more


@dataclass(eq=False, kw_only=True)
class Request:
    """A request with its parameters and its progress."""

    key: RequestKey
    owner: Owner
    prompt: list[int]
    max_tokens: int
    stop_ids: frozenset[int]
    sampling: Sampling
    seed: int  # 0 <= seed < 2**64
    borders: list[int] = field(default_factory=list)  # where other prompts may part from it

    arrived_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None  # its prefill, the first time
    stage: Stage = Stage.WAITING
    num_reserved: int = 0  # tokens for which an admitted request has memory
    num_prefilled: int = 0  # tokens of the context in the KV cache
    num_reused: int = 0  # of these, from a prefix
    interrupted: list[int] | None = field(default=None, repr=False)  # see ``context``
    stops: list[Stop] = field(default_factory=list)  # where prefill takes snapshots next
    num_cached: int = 0  # prompt tokens that came from the prefix cache
    num_sampled: int = 0  # sampled tokens, read or not
    tokens: list[int] = field(default_factory=list)  # sampled and read
    finish_reason: FinishReason | None = None
    is_aborted: bool = False
    has_bad_logits: bool = False  # not finite: its KV cache must not be reused

    cache: PromptCache | None = field(default=None, repr=False)  # until it joins the batch
    logits: mx.array | None = field(default=None, repr=False)  # [1, V], after the prompt
    prefix_entry: RunningEntry | None = field(default=None, repr=False)
    drafter: Drafter | None = field(default=None, repr=False)  # only in small batches

    counts: dict[int, int] | None = None  # with penalties: times sampled; 0 in the prompt
    scores: list[Token] | None = None  # of the prompt, if requested and not yet emitted
    compiling: Future[GrammarState] | None = None  # a grammar that is not compiled yet
    grammar: GrammarState | None = None
    grammar_sign: Marker | None = None  # what a grammar waits for
    has_reached_grammar: bool = True  # False while it waits
    thinking: Thinking | None = None  # with a limit of the reasoning

    @classmethod
    def of(cls, key: RequestKey, message: Generate, random_seed: int) -> "Request":
        """The request of ``message``, with ``random_seed`` if the message has no seed."""
        sampling = message.sampling
        return cls(
            key=key,
            owner=Owner.of(key, message),
            prompt=message.prompt,
            max_tokens=message.max_tokens,
            stop_ids=frozenset(message.stop_ids),
            sampling=sampling,
            seed=random_seed if sampling.seed is None else sampling.seed,
            borders=message.borders,
            scores=[] if sampling.scores_prompt else None,
            grammar_sign=Marker(sampling.grammar_after) if sampling.grammar_after else None,
            has_reached_grammar=not sampling.grammar_after,
            counts=dict.fromkeys(message.prompt, 0) if _has_penalties(sampling) else None,
            thinking=None if sampling.thinking is None else Thinking(sampling.thinking),
        )

    @property
    def context(self) -> list[int]:
        """What is prefilled: the prompt, and the tokens from before the row was lost."""
        return self.prompt if self.interrupted is None else self.interrupted

    @property
    def is_resumed(self) -> bool:
        """True if the request has lost its row after its prefill had started."""
        return self.interrupted is not None

    def set_aside(self) -> None:
        """Go back to the queue, without a KV cache. All sampled tokens must be read.

        The request goes on as if nothing had happened: a token depends on the sequence, the
        seed and the position.
        """
        if self.stage is not Stage.ADMITTED:
            self.interrupted = [*self.prompt, *self.tokens]
        self.stage = Stage.WAITING
        self.num_prefilled = self.num_reused = 0
        self.stops = []
        self.logits = self.drafter = None
        if self.scores is not None:
            self.scores = []

    def start(self) -> None:
        """The computation begins, or begins again after the row was lost."""
        if self.started_at is None:
            self.started_at = time.monotonic()

    def take_timing(self) -> Timing | None:
        """The seconds until the first token, which is read now; None for later tokens."""
        if self.tokens or self.started_at is None:
            return None
        computed = time.monotonic() - self.started_at
        return Timing(self.started_at - self.arrived_at, computed)

    @property
    def own_cache(self) -> PromptCache:
        """The KV cache of a started request that has not joined the batch."""
        if self.cache is None:
            raise RuntimeError(f"a {self.stage.name} request has no KV cache of its own")
        return self.cache

    @property
    def prompt_logits(self) -> mx.array:
        """The logits after the prompt of a prefilled request, [1, V]."""
        if self.logits is None:
            raise RuntimeError(f"a {self.stage.name} request has no logits")
        return self.logits

    @property
    def max_length(self) -> int:
        """The maximum number of tokens in the KV cache."""
        return len(self.prompt) + self.max_tokens

    def reserve(self, num_more: int) -> None:
        """Need memory for ``num_more`` tokens beside those that exist, or for the rest."""
        length = max(len(self.context), self.num_computed)
        self.num_reserved = min(length + num_more, self.max_length)

    @property
    def must_grow(self) -> bool:
        """True if the next step may need more memory than is reserved."""
        return self.num_reserved <= self.num_computed and not self.needs_no_step

    @property
    def num_to_prefill(self) -> int:
        """The remaining tokens of the context."""
        return len(self.context) - self.num_prefilled

    @property
    def num_computed(self) -> int:
        """The tokens in the KV cache, or about as many."""
        return self.num_prefilled + len(self.prompt) + self.num_sampled - len(self.context)

    @property
    def num_used(self) -> int:
        """The tokens that were computed for the request since it got its row."""
        return self.num_computed - self.num_reused

    @property
    def num_remaining(self) -> int:
        """The number of tokens that may still be sampled."""
        return self.max_tokens - self.num_sampled

    @property
    def has_ended(self) -> bool:
        """True if no further token is accepted."""
        return self.is_aborted or self.finish_reason is not None

    @property
    def needs_no_step(self) -> bool:
        """True if the row can leave the batch: its last token is sampled, read or not."""
        return self.has_ended or self.num_remaining <= 0

    def shares_prefix(self, other: "Request") -> bool:
        """True if it pays to wait until ``other`` has prefilled the prefix that both share."""
        if self.scores is not None:
            return False  # needs the logits of every position
        if self.owner.key != other.owner.key and other.num_to_prefill > self.num_to_prefill:
            return False  # nobody waits for a longer prompt of another key
        length = len(self.context) - 1
        count = max(length // 2, min(length, _WORTH_WAITING))
        return self.context[:count] == other.context[:count]

    @property
    def depends_on_last_token(self) -> bool:
        """True if the next token cannot be sampled before the last one is read."""
        return (
            self.counts is not None or self.grammar is not None or self.forced_token is not None
        )

    @property
    def is_masked(self) -> bool:
        """True if not all tokens may follow."""
        if self.grammar is None and self.thinking is None:
            return False  # the usual case: each row of each step comes here
        return self.grammar is not None or self.forced_token is not None

    @property
    def forced_token(self) -> int | None:
        """The next token, if it ends the reasoning at its limit."""
        return None if self.thinking is None else self.thinking.forced_token

    @property
    def active_grammar(self) -> GrammarState | None:
        """The grammar, if it constrains the next token."""
        return self.grammar if self.has_reached_grammar else None

    @property
    def awaits_grammar(self) -> bool:
        """True if a grammar starts later."""
        return self.grammar is not None and not self.has_reached_grammar

    @property
    def holds_back_stops(self) -> bool:
        """True if the next token cannot be a stop id."""
        return self.num_sampled < self.sampling.min_tokens

    @property
    def changes_adjustments(self) -> bool:
        """True if penalties or biases may differ from those of the last step."""
        return self.counts is not None or 0 < self.num_sampled <= self.sampling.min_tokens

    @property
    def bias(self) -> dict[int, float]:
        """The bias that is added to the logits, by token id."""
        if not self.holds_back_stops or self.forced_token is not None:
            return self.sampling.logit_bias
        return self.sampling.logit_bias | dict.fromkeys(self.stop_ids, -math.inf)

    def accept(self, token: int) -> bool:
        """Append a token that was read; False if it is a stop id, which ends the text."""
        self.tokens.append(token)
        if self.drafter is not None:
            self.drafter.add(token)
        if self.counts is not None:
            self.counts[token] = self.counts.get(token, 0) + 1
        if (grammar := self.active_grammar) is not None:
            grammar.accept(token)
        elif self.grammar is not None and self.grammar_sign is not None:
            self.has_reached_grammar = self.grammar_sign.ends(self.tokens)
        if self.thinking is not None:
            self.thinking.accept(token)
        if token in self.stop_ids:
            self.finish_reason = "stop"
            return False
        if len(self.tokens) >= self.max_tokens:
            self.finish_reason = "length"
        return True


def _has_penalties(sampling: Sampling) -> bool:
    return (
        sampling.repetition_penalty != 1
        or sampling.frequency_penalty != 0
        or sampling.presence_penalty != 0
    )
