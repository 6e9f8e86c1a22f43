"""One simulated request: one turn of a conversation."""

import math
from array import array
from dataclasses import dataclass, field

ANSWER_STEP = (
    512  # tokens of the answer that have memory at a time, as in the engine's scheduler
)


@dataclass(eq=False)
class Request:
    """Lengths in tokens, times in seconds since the start of the trace.

    ``answer_reuse``: the share of the answer that is a prefix of the next prompt; less than 1
    where a client or a template changes old answers.
    """

    conversation: str
    turn: int
    system: str
    system_tokens: int
    prompt: int
    answer: int
    sent_at: float
    answer_reuse: float = 1.0
    num_prefilled: int = 0
    num_cached: int = 0
    num_generated: int = 0
    first_token_at: float = math.nan
    last_token_at: float = math.nan
    gaps: array = field(default_factory=lambda: array("f"))  # between its tokens
    is_refused: bool = False

    @property
    def context(self) -> int:
        """What has to be in the KV cache before the next token: more than the prompt for a
        request that has lost its row."""
        return self.prompt + self.num_generated

    @property
    def num_to_prefill(self) -> int:
        return self.context - self.num_prefilled

    @property
    def num_reserved(self) -> int:
        """The positions that its row claims."""
        steps = self.num_generated // ANSWER_STEP + 1
        return self.prompt + min(steps * ANSWER_STEP, self.answer)

    @property
    def has_ended(self) -> bool:
        return self.num_generated >= self.answer
