"""What the server answers: OpenAI's response bodies as typed structs.

Fields appear in JSON in the order written here. A field that is ``UNSET`` is left out.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from mlxnode.messages import FinishReason


class PromptTokensDetails(Struct):
    cached_tokens: int = 0  # known from an earlier request, so not computed again


class CompletionTokensDetails(Struct):
    reasoning_tokens: int = 0


class Usage(Struct):
    """Exact counts. The stop token that ends a text is counted, as it was generated."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


# --- /v1/chat/completions -----------------------------------------------------------


ChatFinishReason = FinishReason | Literal["tool_calls"]


class TopLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct):
    """A token's log-probability, of the model's raw logits; ``token`` may be a part of a
    character, ``bytes`` are exact."""

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
    """``content`` is null when the model only called tools."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(Struct):
    index: int
    message: ChatMessage
    finish_reason: ChatFinishReason
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Struct):
    """``service_tier`` is told to those who asked for one: there is one only."""

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
    """A piece of a call: id, type and name come with the first, the rest are arguments."""

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


# --- /v1/completions ----------------------------------------------------------------


class TextLogprobs(Struct):
    """Of each token, null for the first of an echoed prompt; ``text_offset`` counts characters
    from the start of the choice's text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Struct):
    index: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: TextLogprobs | None = None


class TextCompletion(Struct):
    """The whole answer and, with ``usage`` unset or null, a chunk of a stream."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["text_completion"] = "text_completion"


# --- /v1/embeddings -----------------------------------------------------------------


class EmbeddingUsage(Struct):
    prompt_tokens: int
    total_tokens: int


class Embedding(Struct):
    """``embedding``: numbers, or the base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingList(Struct):
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


# --- /v1/models, /health, errors ----------------------------------------------------


class Model(Struct):
    """A model, with the extras that people look for."""

    id: str
    created: int
    type: Literal["chat", "completion", "embedding"]
    context_length: int
    max_model_len: int  # the same, by vLLM's name
    dimensions: int | UnsetType = UNSET
    owned_by: str = "mlxnode"
    object: Literal["model"] = "model"


class ModelList(Struct):
    data: list[Model]
    object: Literal["list"] = "list"


class Health(Struct):
    status: Literal["ok"]
    engine: Literal["ok"]


class ErrorBody(Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(Struct):
    error: ErrorBody


encode_json = msgspec.json.Encoder().encode
