"""The request body of ``/v1/completions``."""

from typing import Annotated, ClassVar

from pydantic import Field

from mlxnode.server.formats.fields import MAX_CHOICES, TextOrTokens
from mlxnode.server.formats.generation import GenerationBody
from mlxnode.server.formats.rules import Rule, at_least, needs, one_of


class CompletionBody(GenerationBody):
    """``POST /v1/completions``."""

    prompt: TextOrTokens[str]
    max_tokens: Annotated[int, Field(ge=0)] | None = None  # 0: only score the prompt
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
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
    def echoes(self) -> bool:
        return bool(self.echo)

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def num_candidates(self) -> int:
        return self.best_of or self.num_choices
