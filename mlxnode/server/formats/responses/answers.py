"""The response bodies of ``/v1/responses``, by OpenAI's reference of the Responses API.

The JSON has the fields in the order of the struct, without the fields that are ``UNSET``.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.formats.chat.answers import TokenLogprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(Struct, tag_field="type", tag="output_text"):
    """A part of a message, with the log-probabilities of its tokens if they are asked for."""

    text: str
    logprobs: list[TokenLogprob] = []
    annotations: list[dict[str, Any]] = []


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    text: str


class SummaryText(Struct, tag_field="type", tag="summary_text"):
    text: str


class MessageItem(Struct, tag_field="type", tag="message"):
    id: str
    status: ItemStatus
    content: list[OutputText] = []
    role: Literal["assistant"] = "assistant"


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    """A thought: in ``summary`` if the request asks for summaries, else in ``content``.

    ``encrypted_content`` is the whole thought in a form to send back, if the request asks.
    """

    id: str
    status: ItemStatus
    summary: list[SummaryText] = []
    content: list[ReasoningText] | UnsetType = UNSET
    encrypted_content: str | UnsetType = UNSET


class FunctionCallItem(Struct, tag_field="type", tag="function_call"):
    """A call. ``namespace`` is the tool of that type that has the function, if one has it."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str = ""  # JSON, as the model wrote it
    namespace: str | UnsetType = UNSET


OutputItem = MessageItem | ReasoningItem | FunctionCallItem


class InputTokensDetails(Struct):
    cached_tokens: int = 0  # from the prefix cache
    cache_write_tokens: int = 0  # nobody pays for what is written to it


class ResponseOutputTokensDetails(Struct):
    reasoning_tokens: int = 0


class ResponseUsage(Struct):
    """Exact counts. A stop token that ends a text is counted, because it was generated."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: ResponseOutputTokensDetails
    total_tokens: int

    @classmethod
    def of(cls, counts: TokenCounts) -> "ResponseUsage":
        return cls(
            counts.prompt,
            InputTokensDetails(counts.cached),
            counts.completion,
            ResponseOutputTokensDetails(counts.reasoning),
            counts.total,
        )


class ResponseError(Struct):
    code: str
    message: str


class IncompleteDetails(Struct):
    reason: Literal["max_output_tokens"]


class ResponseReasoning(Struct):
    effort: str | None = None
    summary: str | None = None


class ResponseText(Struct):
    format: dict[str, Any]
    verbosity: str = "medium"


class Response(Struct, kw_only=True):
    """An answer, with the request's parameters as they were used.

    ``store`` tells whether the answer can be found later; ``usage`` is null while it is made.
    """

    id: str
    object: Literal["response"] = "response"
    created_at: int  # Unix seconds
    status: ResponseStatus = "in_progress"
    background: bool = False
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: ResponseReasoning
    safety_identifier: str | None = None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float
    text: ResponseText
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int = 0
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None = None
    user: str | None = None
    metadata: dict[str, Any]


class DeletedResponse(Struct):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ItemList(Struct):
    """A page of the items that an answer was made from."""

    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class InputTokenCount(Struct):
    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"
