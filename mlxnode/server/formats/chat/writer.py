"""Writes the answers of ``/v1/chat/completions``."""

from typing import Literal

from msgspec import UNSET, UnsetType

from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import ChoiceDelta, FinishedChoice, ScoredToken
from mlxnode.server.answer.events import Event, content_of, reasoning_of
from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.answer.writer import AnswerWriter
from mlxnode.server.formats.chat.answers import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatFinishReason,
    ChatLogprobs,
    ChatMessage,
)
from mlxnode.server.formats.chat.calls import FunctionCallWriter, ToolCallWriter
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
        has_functions: bool = False,
    ):
        """``token_bytes``: the bytes of tokens, if the answer reports log-probabilities.

        ``has_functions``: the request has functions instead of tools.
        """
        self._calls = FunctionCallWriter() if has_functions else ToolCallWriter()
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
                self._message(choice.events),
                self._calls.finish_reason(choice.finish_reason),
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
                self._choice_chunk(delta.index, self._delta(delta.events), logprobs=logprobs)
            )
        if delta.finish_reason is not None:
            reason = self._calls.finish_reason(delta.finish_reason)
            chunks.append(self._choice_chunk(delta.index, ChatDelta(), reason))
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

    def _message(self, events: list[Event]) -> ChatMessage:
        content = content_of(events)
        message = ChatMessage(content)
        if self._calls.add_to(message, events) and not content:
            message.content = None
        if reasoning := reasoning_of(events):
            message.reasoning_content = reasoning
        return message

    def _delta(self, events: list[Event]) -> ChatDelta:
        delta = ChatDelta()
        if reasoning := reasoning_of(events):
            delta.reasoning_content = reasoning
        has_calls = self._calls.add_to_delta(delta, events)
        content = content_of(events)
        if content or not (reasoning or has_calls):
            delta.content = content
        return delta

    def _logprobs(self, tokens: list[ScoredToken]) -> ChatLogprobs | None:
        return None if self._logprob_writer is None else self._logprob_writer.write(tokens)
