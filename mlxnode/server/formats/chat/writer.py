"""Writes the answers of ``/v1/chat/completions``."""

from mlxnode.messages import Token
from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import Delta, ScoredToken
from mlxnode.server.formats.chat.answers import (
    CalledFunction,
    CalledFunctionDelta,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
)
from mlxnode.server.formats.usage import Usage
from mlxnode.server.formats.writer import LEAST_LOGPROB, _Identity
from mlxnode.server.notation.output_parser import CallPiece, Reply
from mlxnode.server.prompt.token_text import TokenText


class ChatFormat(_Identity):
    """Bodies of ``/v1/chat/completions``."""

    def __init__(
        self,
        served: ServedModel,
        *,
        include_usage: bool,
        logprobs_of: TokenText | None = None,
        num_choices: int = 1,
        tells_tier: bool = False,
    ):
        super().__init__(
            served, "chatcmpl-", include_usage=include_usage, logprobs_of=logprobs_of
        )
        self._num_choices = num_choices
        if tells_tier:
            self._shared["service_tier"] = "default"

    def whole(self, deltas: list[Delta], usage: Usage) -> ChatCompletion:
        choices = [
            ChatChoice(
                delta.index,
                _message(delta.reply),
                delta.finish_reason,
                self._logprobs(delta.tokens),
            )
            for delta in deltas
        ]
        return ChatCompletion(**self._shared, choices=choices, usage=usage)

    def opening(self) -> list[ChatChunk]:
        start = ChatDelta(role="assistant", content="", refusal=None)
        return [self._chunk(index, start) for index in range(self._num_choices)]

    def chunks(self, delta: Delta) -> list[ChatChunk]:
        chunks = []
        if delta.reply or delta.tokens:
            logprobs = self._logprobs(delta.tokens)
            chunks.append(self._chunk(delta.index, _delta(delta.reply), logprobs=logprobs))
        if delta.finish_reason:
            chunks.append(self._chunk(delta.index, ChatDelta(), delta.finish_reason))
        return chunks

    def closing(self, usage: Usage) -> list[ChatChunk]:
        if not self._include_usage:
            return []
        return [ChatChunk(**self._shared, choices=[], usage=usage)]

    def _chunk(
        self,
        index: int,
        delta: ChatDelta,
        finish_reason: str | None = None,
        logprobs: ChatLogprobs | None = None,
    ) -> ChatChunk:
        choice = ChatChunkChoice(index, delta, finish_reason, logprobs)
        return ChatChunk(**self._shared, choices=[choice], usage=self._no_usage)

    def _logprobs(self, tokens: list[ScoredToken]) -> ChatLogprobs | None:
        if self._token_text is None:
            return None
        return ChatLogprobs([self._scored(scored.token) for scored in tokens])

    def _scored(self, token: Token) -> TokenLogprob:
        tops = token.top_logprobs or {}
        top = [TopLogprob(*self._named(i, logprob)) for i, logprob in tops.items()]
        return TokenLogprob(*self._named(token.id, token.logprob), top)

    def _named(self, token: int, logprob: float) -> tuple[str, float, list[int]]:
        data = self._token_text.bytes_of(token)
        return data.decode(errors="replace"), max(logprob, LEAST_LOGPROB), list(data)


def _message(reply: Reply) -> ChatMessage:
    message = ChatMessage(None if reply.calls and not reply.content else reply.content)
    if reply.reasoning:
        message.reasoning_content = reply.reasoning
    if reply.calls:
        message.tool_calls = [
            ToolCall(call.id, CalledFunction(call.name, call.arguments)) for call in reply.calls
        ]
    return message


def _delta(reply: Reply) -> ChatDelta:
    delta = ChatDelta()
    if reply.reasoning:
        delta.reasoning_content = reply.reasoning
    if reply.calls:
        delta.tool_calls = [_call_delta(piece) for piece in reply.calls]
    if reply.content or not (reply.reasoning or reply.calls):
        delta.content = reply.content
    return delta


def _call_delta(piece: CallPiece) -> ToolCallDelta:
    delta = ToolCallDelta(piece.index, CalledFunctionDelta(piece.arguments))
    if piece.name is not None:
        delta.id, delta.type, delta.function.name = piece.id, "function", piece.name
    return delta
