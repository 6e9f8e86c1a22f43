"""One generation request inside the engine."""

import math
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from mlxnode.engine.decode.grammar import GrammarState
from mlxnode.engine.decode.prompt_lookup import Drafter
from mlxnode.messages import FinishReason, Generate, Sampling, Token

_WORTH_WAITING = 64  # tokens of a beginning that another one is processing
# A request is known by the data pipe it came through and the uid its worker gave it.
RequestKey = tuple[int, int]


@dataclass(eq=False)
class Request:
    """A text being continued: what was asked for, and how far it has come."""

    key: RequestKey
    prompt: list[int]
    max_tokens: int
    stop_ids: frozenset[int]
    sampling: Sampling
    seed: int  # 0 <= seed < 2**64
    counts: dict[int, int] | None = None  # with penalties: times generated, 0 in the prompt
    scores: list[Token] | None = None  # of the prompt, as far as it is prefilled
    compiling: Future[GrammarState] | None = None  # the grammar on its way
    grammar: GrammarState | None = None
    ending: list[int] = field(default_factory=list)  # the last tokens, before a grammar begins
    cache: list[Any] | None = field(default=None, repr=False)  # one row, until it joins
    logits: Any = field(default=None, repr=False)  # [1, V], of the first token to draw
    text: Any = field(default=None, repr=False)  # what the prefix cache knows of it
    drafter: Drafter | None = field(default=None, repr=False)  # in small batches
    num_prefilled: int = 0  # prompt tokens in the cache
    num_launched: int = 0  # tokens drawn, read or not
    num_cached: int = 0  # prompt tokens that were known from other texts
    tokens: list[int] = field(default_factory=list)  # generated and read
    finish_reason: FinishReason | None = None
    is_aborted: bool = False
    has_failed: bool = False  # its logits are not finite: nothing of it may be used

    @classmethod
    def of(cls, pipe: int, message: Generate, random_seed: int) -> "Request":
        """The request of ``message``; ``random_seed`` serves where it brings none."""
        sampling = message.sampling
        seed = sampling.seed
        return cls(
            key=(pipe, message.uid),
            prompt=message.prompt,
            max_tokens=message.max_tokens,
            stop_ids=frozenset(message.stop_ids),
            sampling=sampling,
            seed=random_seed if seed is None else seed,
            scores=[] if sampling.scores_prompt else None,
            counts=dict.fromkeys(message.prompt, 0) if _has_penalties(sampling) else None,
        )

    @property
    def max_length(self) -> int:
        """Tokens in the cache at the most."""
        return len(self.prompt) + self.max_tokens

    @property
    def num_to_prefill(self) -> int:
        """Prompt tokens left to process."""
        return len(self.prompt) - self.num_prefilled

    @property
    def num_to_launch(self) -> int:
        """Tokens that may still be drawn."""
        return self.max_tokens - self.num_launched

    @property
    def is_done(self) -> bool:
        return self.is_aborted or self.finish_reason is not None

    @property
    def is_fully_launched(self) -> bool:
        """Whether its last token is on its way, so that no further step needs its row."""
        return self.num_to_launch <= 0

    def begins_like(self, other: "Request") -> bool:
        """Whether so much of the prompt is in ``other``'s, too, that waiting for it pays."""
        if self.scores is not None:
            return False  # needs the logits of every position
        length = len(self.prompt) - 1
        count = max(length // 2, min(length, _WORTH_WAITING))
        return self.prompt[:count] == other.prompt[:count]

    @property
    def needs_text(self) -> bool:
        """Whether its next token cannot be drawn before its last one is known."""
        return self.counts is not None or self.grammar is not None

    @property
    def is_constrained(self) -> bool:
        """Whether its grammar decides on the next token."""
        return self.grammar is not None and self.ending == self.sampling.grammar_after

    @property
    def holds_back_stops(self) -> bool:
        """Whether its next token may not end the text yet."""
        return self.num_launched < self.sampling.min_tokens

    @property
    def changes_adjustments(self) -> bool:
        """Whether its penalties or biases may differ from those of its last step."""
        return self.counts is not None or 0 < self.num_launched <= self.sampling.min_tokens

    @property
    def bias(self) -> dict[int, float]:
        """What is added to logits, by token id."""
        if not self.holds_back_stops:
            return self.sampling.logit_bias
        return self.sampling.logit_bias | dict.fromkeys(self.stop_ids, -math.inf)

    def accept(self, token: int) -> bool:
        """Count a token that was read; False when it ends the text and is not part of it."""
        self.tokens.append(token)
        if self.drafter is not None:
            self.drafter.add(token)
        if self.counts is not None:
            self.counts[token] = self.counts.get(token, 0) + 1
        if self.is_constrained:
            self.grammar.accept(token)
        elif self.grammar is not None:
            length = len(self.sampling.grammar_after)
            self.ending = [*self.ending, token][-length:]
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
