"""The response bodies of ``/v1/messages`` and ``/v1/messages/count_tokens``."""

from typing import Any, Literal

from msgspec import Struct

from mlxnode.server.answer.usage import TokenCounts

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class Text(Struct, tag_field="type", tag="text"):
    text: str


class Thoughts(Struct, tag_field="type", tag="thinking"):
    """``signature`` is opaque: a client sends it back with its block."""

    thinking: str
    signature: str


class ToolUse(Struct, tag_field="type", tag="tool_use"):
    """``input`` are the arguments; those of a call that was cut, as far as they are JSON."""

    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = Text | Thoughts | ToolUse


class OutputTokensDetails(Struct):
    thinking_tokens: int


class MessageUsage(Struct):
    """Exact counts. The prompt has ``input_tokens`` and those that were read from a cache.

    Prefixes are kept of every prompt, at no price, so that none are counted as created.
    """

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    service_tier: Literal["standard"] = "standard"

    @classmethod
    def of(cls, counts: TokenCounts) -> "MessageUsage":
        return cls(
            counts.prompt - counts.cached,
            0,
            counts.cached,
            counts.completion,
            OutputTokensDetails(counts.reasoning),
        )


class AnswerMessage(Struct, tag_field="type", tag="message"):
    """An answer; at the start of a stream, without content and reason."""

    id: str
    role: Literal["assistant"]
    model: str
    content: list[AnswerBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class TokenCount(Struct):
    input_tokens: int
