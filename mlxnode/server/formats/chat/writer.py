"""Writes the answers of ``/v1/chat/completions``."""

from typing import Literal

from msgspec import UNSET, UnsetType

from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import ChoiceDelta, FinishedChoice, ScoredToken
from mlxnode.server.answer.events import (
    CallArguments,
    CallBegun,
    Event,
    content_of,
    reasoning_of,
)
from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.formats.chat.answers import (
    CalledFunction,
    CalledFunctionDelta,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatFinishReason,
    ChatLogprobs,
    ChatMessage,
    ToolCall,
    ToolCallDelta,
)
from mlxnode.server.formats.chat.logprobs import LogprobWriter
from mlxnode.server.formats.usage import Usage
from mlxnode.server.formats.writer import AnswerIdentity
from mlxnode.token_bytes import TokenBytes


class ChatWriter(AnswerWriter):
    """Writes the answer to one chat request."""

    def __init__(
        self,
        served: ServedModel,
        *,
        include_usage: bool,
        token_bytes: TokenBytes | None = None,
        num_choices: int = 1,
        has_service_tier: bool = False,
    ):
        """``token_bytes``: the bytes of tokens, if the answer reports log-probabilities."""
        self._identity = AnswerIdentity.new("chatcmpl-", served)
        self._include_usage = include_usage
        self._logprob_writer = None if token_bytes is None else LogprobWriter(token_bytes)
        self._num_choices = num_choices
        self._service_tier: Literal["default"] | UnsetType = (
            "default" if has_service_tier else UNSET
        )

    def response(self, choices: list[FinishedChoice], usage: TokenCounts) -> ChatCompletion:
        written = [
            ChatChoice(
                choice.index,
                _message(choice.events),
                choice.finish_reason,
                self._logprobs(choice.tokens),
            )
            for choice in choices
        ]
        return ChatCompletion(
            id=self._identity.id,
            created=self._identity.created,
            model=self._identity.model,
            system_fingerprint=self._identity.system_fingerprint,
            choices=written,
            usage=Usage.of(usage),
            service_tier=self._service_tier,
        )

    def opening_chunks(self, usage: TokenCounts) -> list[ChatChunk]:
        start = ChatDelta(role="assistant", content="", refusal=None)
        return [self._choice_chunk(index, start) for index in range(self._num_choices)]

    def chunks(self, delta: ChoiceDelta) -> list[ChatChunk]:
        chunks = []
        if delta.events or delta.tokens:
            logprobs = self._logprobs(delta.tokens)
            chunks.append(
                self._choice_chunk(delta.index, _delta(delta.events), logprobs=logprobs)
            )
        if delta.finish_reason is not None:
            chunks.append(self._choice_chunk(delta.index, ChatDelta(), delta.finish_reason))
        return chunks

    def closing_chunks(self, usage: TokenCounts) -> list[ChatChunk]:
        return [self._chunk([], Usage.of(usage))] if self._include_usage else []

    def _choice_chunk(
        self,
        index: int,
        delta: ChatDelta,
        finish_reason: ChatFinishReason | None = None,
        logprobs: ChatLogprobs | None = None,
    ) -> ChatChunk:
        return self._chunk([ChatChunkChoice(index, delta, finish_reason, logprobs)], None)

    def _chunk(self, choices: list[ChatChunkChoice], usage: Usage | None) -> ChatChunk:
        return ChatChunk(
            id=self._identity.id,
            created=self._identity.created,
            model=self._identity.model,
            system_fingerprint=self._identity.system_fingerprint,
            choices=choices,
            # With include_usage, all chunks have the field, but only the last has counts.
            usage=usage if self._include_usage else UNSET,
            service_tier=self._service_tier,
        )

    def _logprobs(self, tokens: list[ScoredToken]) -> ChatLogprobs | None:
        return None if self._logprob_writer is None else self._logprob_writer.write(tokens)


def _message(events: list[Event]) -> ChatMessage:
    content, calls = content_of(events), _tool_calls(events)
    message = ChatMessage(None if calls and not content else content)
    if reasoning := reasoning_of(events):
        message.reasoning_content = reasoning
    if calls:
        message.tool_calls = calls
    return message


def _tool_calls(events: list[Event]) -> list[ToolCall]:
    """The whole calls."""
    calls: list[ToolCall] = []
    for event in events:
        if isinstance(event, CallBegun):
            calls.append(ToolCall(event.id, CalledFunction(event.name, "")))
        elif isinstance(event, CallArguments):
            calls[-1].function.arguments += event.text
    return calls


def _delta(events: list[Event]) -> ChatDelta:
    delta = ChatDelta()
    if reasoning := reasoning_of(events):
        delta.reasoning_content = reasoning
    if calls := _call_deltas(events):
        delta.tool_calls = calls
    content = content_of(events)
    if content or not (reasoning or calls):
        delta.content = content
    return delta


def _call_deltas(events: list[Event]) -> list[ToolCallDelta]:
    """What is new of the calls: one delta a call, with its name if it begins here."""
    deltas: dict[int, ToolCallDelta] = {}
    for event in events:
        if isinstance(event, CallBegun):
            function = CalledFunctionDelta("", event.name)
            deltas[event.index] = ToolCallDelta(event.index, function, event.id, "function")
        elif isinstance(event, CallArguments):
            new = ToolCallDelta(event.index, CalledFunctionDelta(""))
            deltas.setdefault(event.index, new).function.arguments += event.text
    return list(deltas.values())
