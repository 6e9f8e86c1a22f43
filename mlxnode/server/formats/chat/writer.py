"""Writes the answers of ``/v1/chat/completions``."""

from typing import Literal

from msgspec import UNSET, UnsetType

from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import ChoiceDelta, FinishedChoice, ScoredToken
from mlxnode.server.answer.usage import TokenCounts
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
from mlxnode.server.parsing.output_parser import CallDelta, OutputDelta
from mlxnode.token_bytes import TokenBytes


class ChatWriter:
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
                _message(choice.output),
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

    def opening_chunks(self) -> list[ChatChunk]:
        start = ChatDelta(role="assistant", content="", refusal=None)
        return [self._choice_chunk(index, start) for index in range(self._num_choices)]

    def chunks(self, delta: ChoiceDelta) -> list[ChatChunk]:
        chunks = []
        if delta.output or delta.tokens:
            logprobs = self._logprobs(delta.tokens)
            chunks.append(
                self._choice_chunk(delta.index, _delta(delta.output), logprobs=logprobs)
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


def _message(output: OutputDelta) -> ChatMessage:
    message = ChatMessage(None if output.calls and not output.content else output.content)
    if output.reasoning:
        message.reasoning_content = output.reasoning
    if output.calls:
        message.tool_calls = _tool_calls(output.calls)
    return message


def _tool_calls(deltas: list[CallDelta]) -> list[ToolCall]:
    """The whole calls: the first delta of each has its id and name, others add arguments."""
    calls: list[ToolCall] = []
    for delta in deltas:
        if delta.id is not None and delta.name is not None:
            calls.append(ToolCall(delta.id, CalledFunction(delta.name, delta.arguments)))
        else:
            calls[-1].function.arguments += delta.arguments
    return calls


def _delta(output: OutputDelta) -> ChatDelta:
    delta = ChatDelta()
    if output.reasoning:
        delta.reasoning_content = output.reasoning
    if output.calls:
        delta.tool_calls = [_call_delta(call) for call in output.calls]
    if output.content or not (output.reasoning or output.calls):
        delta.content = output.content
    return delta


def _call_delta(call: CallDelta) -> ToolCallDelta:
    if call.id is None or call.name is None:
        return ToolCallDelta(call.index, CalledFunctionDelta(call.arguments))
    function = CalledFunctionDelta(call.arguments, call.name)
    return ToolCallDelta(call.index, function, call.id, "function")
