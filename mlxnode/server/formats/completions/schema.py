"""The request body of ``/v1/completions``."""

from typing import Annotated, ClassVar

from pydantic import Field

from mlxnode.server.formats.fields import MAX_CHOICES, TextOrTokens
from mlxnode.server.formats.generation import GenerationBody
from mlxnode.server.formats.rules import Rule, at_least, needs, one_of


class CompletionBody(GenerationBody):
    """``POST /v1/completions``."""

    prompt: TextOrTokens[str]
    # 0: only score the prompt; -1: no limit (LM Studio, llama.cpp)
    max_tokens: Annotated[int, Field(ge=-1)] | None = None
    logprobs: bool | Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    echo: bool | None = None
    suffix: str | None = None  # the text after the gap that the answer fills

    rules: ClassVar[tuple[Rule, ...]] = (
        at_least("best_of", "n", max_other=MAX_CHOICES),
        needs(
            "best_of",
            one_of("stream", False, None),
            "the best answers cannot be streamed",
            neutral=(1,),
        ),
        # The answer fills the gap between the prompt and the suffix: an echo repeats neither.
        needs(
            "suffix",
            one_of("echo", False, None),
            "echo is true",
            neutral=("",),
            in_schema=False,
        ),
    )

    @property
    def requested_tokens(self) -> int | None:
        return None if self.is_unlimited else self.max_tokens

    @property
    def is_unlimited(self) -> bool:
        """True if the answer may be as long as the model allows."""
        return self.max_tokens == -1

    @property
    def echoes(self) -> bool:
        return bool(self.echo)

    @property
    def num_logprobs(self) -> int | None:
        if isinstance(self.logprobs, bool):
            return 0 if self.logprobs else None  # as in chat
        return self.logprobs

    @property
    def num_candidates(self) -> int:
        return self.best_of or self.num_choices
