"""How a request wants its text generated, free of any wire format."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The parameters that a request sets; None: the model's default.

    ``best_of`` candidates are generated of each prompt, and the ``num_choices`` most likely
    ones are the answer. ``num_logprobs`` is the number of alternatives reported with each
    token; None: no log-probabilities. ``grammar`` excludes ``ignore_eos``, ``min_tokens`` and
    ``stop_token_ids``.
    """

    max_tokens: int | None = None  # of the answer, at most
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None  # -1 and 0: off
    min_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: list[int] = field(default_factory=list)
    stop_strings: list[str] = field(default_factory=list)
    num_choices: int = 1
    best_of: int = 1
    num_logprobs: int | None = None
    echoes_prompt: bool = False
    param: str = "messages"  # the field that holds the prompt, named by errors
