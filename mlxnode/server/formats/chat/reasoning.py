"""How much the model is to reason: the fields of a chat request for that."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import INT32_MAX
from mlxnode.server.prompt.switches import Switches

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Limit = Annotated[int, Field(ge=-1, le=INT32_MAX)]  # tokens; -1: no limit
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


_KwargName = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$"), AfterValidator(_check_name)
]
# Variables of the chat template; those that a template does not have are ignored.
TemplateKwargs = Annotated[
    dict[_KwargName, Any], Field(max_length=32), AfterValidator(_check_size)
]


class Reasoning(Body):
    """How much to reason, as OpenRouter asks for it."""

    effort: Effort | None = None
    enabled: bool | None = None
    max_tokens: Limit | None = None


class Thinking(Body):
    """How much to reason, as Anthropic and Z.ai ask for it."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Limit | None = None


class ReasoningFields(Body):
    """The fields of a body about reasoning. Where several say the same, the first wins."""

    reasoning_effort: Effort | None = None
    reasoning: Reasoning | None = None
    thinking: Thinking | None = None
    enable_thinking: bool | None = None
    thinking_budget: Limit | None = None
    chat_template_kwargs: TemplateKwargs | None = None

    @property
    def kwargs(self) -> dict[str, Any]:
        return self.chat_template_kwargs or {}

    @property
    def effort(self) -> str | None:
        """The effort that the request names, if any."""
        asked = self.reasoning_effort or (self.reasoning and self.reasoning.effort)
        if asked is None and isinstance(named := self.kwargs.get("reasoning_effort"), str):
            return named
        return asked

    @property
    def wants_thinking(self) -> bool | None:
        """Whether the request switches the reasoning on or off; None if it says nothing."""
        if self.enable_thinking is not None:
            return self.enable_thinking
        for name in ("enable_thinking", "thinking"):
            if isinstance(value := self.kwargs.get(name), bool):
                return value
        if self.thinking is not None and self.thinking.type != "adaptive":
            return self.thinking.type == "enabled"
        if self.reasoning is not None and self.reasoning.enabled is not None:
            return self.reasoning.enabled
        return None

    @property
    def max_thinking_tokens(self) -> int | None:
        """The limit of the reasoning in tokens, if the request sets one."""
        limits = (
            self.reasoning and self.reasoning.max_tokens,
            self.thinking and self.thinking.budget_tokens,
            self.thinking_budget,
            self.kwargs.get("thinking_budget"),
        )
        for limit in limits:
            if isinstance(limit, int) and not isinstance(limit, bool):
                return limit if limit >= 0 else None
        return None


def without_effect(body: ReasoningFields, switches: Switches) -> list[str]:
    """The names of the fields that change nothing for a model with ``switches``."""
    reasoning, thinking = body.reasoning or Reasoning(), body.thinking
    efforts = {
        "reasoning_effort": body.reasoning_effort,
        "reasoning.effort": reasoning.effort,
    }
    states = {
        "reasoning.enabled": reasoning.enabled,
        "thinking.type": thinking and {"enabled": True, "disabled": False}.get(thinking.type),
        "enable_thinking": body.enable_thinking,
    }
    limits = {
        "reasoning.max_tokens": reasoning.max_tokens,
        "thinking.budget_tokens": thinking and thinking.budget_tokens,
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
