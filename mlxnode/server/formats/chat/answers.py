"""The response bodies of ``/v1/chat/completions``.

The JSON has the fields in the order of the struct, without the fields that are ``UNSET``.
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from mlxnode.messages.data import FinishReason
from mlxnode.server.formats.usage import Usage

# "function_call": the request has functions, which came before tools.
ChatFinishReason = FinishReason | Literal["tool_calls", "function_call"]


class TopLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct):
    """The log-probability of a token, from the raw logits of the model.

    ``token`` is text, and can be a part of a character; ``bytes`` are exact.
    """

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    content: list[TokenLogprob]
    refusal: None = None


class CalledFunction(Struct):
    name: str
    arguments: str  # JSON, as the model wrote it


class ToolCall(Struct):
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class ChatMessage(Struct):
    """``content`` is null if the model only called tools."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET


class ChatChoice(Struct):
    index: int
    message: ChatMessage
    finish_reason: ChatFinishReason
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Struct):
    """``service_tier`` is present if the request has one; the server has only one tier."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    service_tier: Literal["default"] | UnsetType = UNSET
    object: Literal["chat.completion"] = "chat.completion"


class CalledFunctionDelta(Struct):
    arguments: str
    name: str | UnsetType = UNSET


class ToolCallDelta(Struct):
    """A part of a call. The first part has id, type and name; later parts have arguments."""

    index: int
    function: CalledFunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class ChatDelta(Struct):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    function_call: CalledFunctionDelta | UnsetType = UNSET


class ChatChunkChoice(Struct):
    index: int
    delta: ChatDelta
    finish_reason: ChatFinishReason | None = None
    logprobs: ChatLogprobs | None = None


class ChatChunk(Struct):
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    service_tier: Literal["default"] | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
