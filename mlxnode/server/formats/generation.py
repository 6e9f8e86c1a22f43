"""The fields that the bodies of chat and text completions share."""

from typing import Annotated, ClassVar

from pydantic import Field

from mlxnode.server.answer.settings import Settings
from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import (
    INT32_MAX,
    INT64_MAX,
    MAX_CHOICES,
    MAX_STOPS,
    LogitBias,
    NonEmpty,
    Note,
    Penalty,
    Priority,
    TokenId,
    TokenLimit,
)
from mlxnode.server.formats.structured import StructuredFields


class StreamOptions(Body):
    include_usage: bool | None = None

    harmless: ClassVar = {"include_obfuscation": (False,)}


class GenerationBody(StructuredFields):
    """Base of the bodies that generate text."""

    model: NonEmpty
    max_tokens: TokenLimit = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=INT32_MAX)] | None = None  # -1 and 0: off
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    seed: Annotated[int, Field(ge=-INT64_MAX - 1, le=INT64_MAX)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    logit_bias: LogitBias | None = None
    min_tokens: Annotated[int, Field(ge=0, le=INT32_MAX)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Note = None
    priority: Priority = None

    exact: ClassVar = ("prompt", "stop_token_ids")
    spellings: ClassVar = {
        "max_new_tokens": "max_tokens",  # Hugging Face
        "n_predict": "max_tokens",  # llama.cpp
        "num_predict": "max_tokens",  # Ollama
        "repeat_penalty": "repetition_penalty",  # llama.cpp, Ollama
        "random_seed": "seed",  # Mistral
        "stop_sequences": "stop",  # Anthropic, Cohere
    }

    @property
    def requested_tokens(self) -> int | None:
        """The number of tokens that the client asks for; None for no limit of its own."""
        return self.max_tokens

    @property
    def echoes(self) -> bool:
        """True if the answer starts with the prompt."""
        return False

    @property
    def settings(self) -> Settings:
        """The body's parameters of the generation."""
        return Settings(
            max_tokens=self.requested_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            seed=self.seed,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            logit_bias={int(token): bias for token, bias in (self.logit_bias or {}).items()},
            min_tokens=self.min_tokens or 0,
            ignore_eos=bool(self.ignore_eos),
            stop_token_ids=self.stop_token_ids or [],
            stop_strings=self.stops,
            num_choices=self.num_choices,
            best_of=self.num_candidates,
            num_logprobs=self.num_logprobs,
            echoes_prompt=self.echoes,
        )

    @property
    def num_choices(self) -> int:
        return self.n or 1

    @property
    def num_candidates(self) -> int:
        """The number of answers that are generated of each prompt."""
        return self.num_choices

    @property
    def num_logprobs(self) -> int | None:
        """The number of alternatives reported with each token; None for no logprobs."""
        return None

    @property
    def stops(self) -> list[str]:
        """The texts that end the answer; an empty one ends nothing."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in stops if stop]

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)
