"""How much the model is to reason: the fields of a chat request for that."""

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import INT32_MAX, at_most
from mlxnode.server.prompt.switches import Switches

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_NO_EFFORTS = ("", "auto", "default")  # what the model does without


def _named_effort(value: Any) -> Any:
    return None if isinstance(value, str) and value in _NO_EFFORTS else value


Effort = Annotated[
    Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None,
    BeforeValidator(_named_effort),
    WithJsonSchema({"enum": [*EFFORTS, *_NO_EFFORTS, None]}),
]
Limit = Annotated[int, Field(ge=-1, le=INT32_MAX)]  # tokens; -1: no limit
MAX_KWARGS = 32
MAX_KWARGS_SIZE = 16_000  # characters, as JSON
# What is no variable of a request: a part of the conversation, or of the renderer.
RESERVED_KWARGS = (
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "documents",
    "max_length",
    "messages",
    "padding",
    "raise_exception",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
)


def _check_name(name: str) -> str:
    if name in RESERVED_KWARGS or name.endswith("_token"):
        raise PydanticCustomError(
            "unsupported_value",
            "{name} is no variable that a request can set, as it can enable_thinking",
            {"name": name},
        )
    return name


def _check_size(kwargs: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(kwargs, ensure_ascii=False))
    if size > MAX_KWARGS_SIZE:
        raise PydanticCustomError(
            "object_above_max_size",
            "expected at most {limit} characters of JSON, got {size}",
            {"limit": MAX_KWARGS_SIZE, "size": size},
        )
    return kwargs


_KwargName = Annotated[str, Field(max_length=64), AfterValidator(_check_name)]
# Variables of the chat template; those that a template does not have are ignored.
TemplateKwargs = Annotated[
    dict[_KwargName, Any],
    Field(max_length=MAX_KWARGS),
    AfterValidator(_check_size),
    at_most(MAX_KWARGS),
]


class Reasoning(Body):
    """How much to reason, as OpenRouter asks for it."""

    effort: Effort = None
    enabled: bool | None = None
    max_tokens: Limit | None = None


class Thinking(Body):
    """How much to reason, as Anthropic and Z.ai ask for it."""

    type: Literal["enabled", "disabled", "adaptive", "auto"] | None = None
    budget_tokens: Limit | None = None

    @property
    def is_on(self) -> bool | None:
        """None if the model decides."""
        if self.type is None:
            return True if self.budget_tokens else None
        return {"enabled": True, "disabled": False}.get(self.type)


class ReasoningFields(Body):
    """The fields of a body about reasoning. Where several say the same, the first wins."""

    reasoning_effort: Effort = None
    reasoning: Reasoning | None = None
    thinking: Thinking | bool | None = None
    enable_thinking: bool | None = None
    think: bool | Effort = None  # Ollama
    thinking_budget: Limit | None = None
    chat_template_kwargs: TemplateKwargs | None = None

    spellings: ClassVar = {
        "reasoning_budget_tokens": "thinking_budget",  # llama.cpp
        "thinking_budget_tokens": "thinking_budget",  # llama.cpp
        "thinking_token_budget": "thinking_budget",  # vLLM
    }

    @property
    def kwargs(self) -> dict[str, Any]:
        return self.chat_template_kwargs or {}

    @property
    def effort(self) -> str | None:
        """The effort that the request names, if any."""
        asked = self.reasoning_effort or (self.reasoning and self.reasoning.effort)
        if asked is None and isinstance(self.think, str):
            return self.think
        if asked is None and isinstance(named := self.kwargs.get("reasoning_effort"), str):
            return named
        return asked

    @property
    def wants_thinking(self) -> bool | None:
        """Whether the request switches the reasoning on or off; None if it says nothing."""
        thinking = self.thinking
        wishes = (
            self.enable_thinking,
            self.think,
            self.kwargs.get("enable_thinking"),
            self.kwargs.get("thinking"),
            thinking.is_on if isinstance(thinking, Thinking) else thinking,
            self.reasoning and self.reasoning.enabled,
        )
        return next((wish for wish in wishes if isinstance(wish, bool)), None)

    @property
    def max_thinking_tokens(self) -> int | None:
        """The limit of the reasoning in tokens, if the request sets one."""
        limits = (
            self.reasoning and self.reasoning.max_tokens,
            self.thinking.budget_tokens if isinstance(self.thinking, Thinking) else None,
            self.thinking_budget,
            self.kwargs.get("thinking_budget"),
        )
        for limit in limits:
            if isinstance(limit, int) and not isinstance(limit, bool):
                return limit if limit >= 0 else None
        return None


def without_effect(body: ReasoningFields, switches: Switches) -> list[str]:
    """The names of the fields that change nothing for a model with ``switches``."""
    reasoning, think = body.reasoning or Reasoning(), body.think
    thinking = body.thinking if isinstance(body.thinking, Thinking) else Thinking()
    efforts = {
        "reasoning_effort": body.reasoning_effort,
        "reasoning.effort": reasoning.effort,
        "think": think if isinstance(think, str) else None,
    }
    states = {
        "reasoning.enabled": reasoning.enabled,
        "thinking.type": None if thinking.type is None else thinking.is_on,
        "thinking": body.thinking if isinstance(body.thinking, bool) else None,
        "enable_thinking": body.enable_thinking,
        "think": think if isinstance(think, bool) else None,
    }
    limits = {
        "reasoning.max_tokens": reasoning.max_tokens,
        "thinking.budget_tokens": thinking.budget_tokens,
        "thinking_budget": body.thinking_budget,
    }
    names = [name for name, effort in efforts.items() if effort]
    ignored = [name for name in names if not switches.takes_effort(str(efforts[name]))]
    if not switches.takes_switch:
        ignored += [name for name, is_on in states.items() if is_on is not None]
    if not switches.takes_budget:
        ignored += [name for name, limit in limits.items() if limit is not None]
    variables = body.kwargs.items()
    ignored += [
        f"chat_template_kwargs.{name}"
        for name, value in variables
        if not switches.takes_variable(name, value)
    ]
    return ignored
