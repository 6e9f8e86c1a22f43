"""How generated text is written for a client: whole, and as the chunks of a stream."""

import hashlib
import time
import uuid
from typing import Protocol

import msgspec
from msgspec import UNSET

import mlxnode
from mlxnode.messages import Token
from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import Delta, ScoredToken
from mlxnode.server.formats.answers import (
    CalledFunction,
    CalledFunctionDelta,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    TextChoice,
    TextCompletion,
    TextLogprobs,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
    Usage,
)
from mlxnode.server.notation.output_parser import CallPiece, Reply
from mlxnode.server.prompt.token_text import TokenText

LEAST_LOGPROB = -9999.0  # OpenAI's, for what cannot happen: JSON has no infinity


class Format(Protocol):
    """The bodies of one endpoint; one object a request, so that id and time stay the same."""

    def whole(self, deltas: list[Delta], usage: Usage) -> msgspec.Struct: ...

    def opening(self) -> list[msgspec.Struct]:
        """The chunks that come before any text."""
        ...

    def chunks(self, delta: Delta) -> list[msgspec.Struct]: ...

    def closing(self, usage: Usage) -> list[msgspec.Struct]:
        """The chunks that come after the last choice has ended."""
        ...


class _Identity:
    """What all bodies of one request share."""

    def __init__(
        self,
        served: ServedModel,
        prefix: str,
        *,
        include_usage: bool,
        logprobs_of: TokenText | None,
    ):
        """``logprobs_of``: what names tokens, if log-probabilities were asked for."""
        self._shared = {
            "id": f"{prefix}{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": served.id,
            "system_fingerprint": _fingerprint(served),
        }
        self._include_usage = include_usage
        self._token_text = logprobs_of
        # With include_usage, every chunk but the last says that it has none.
        self._no_usage = None if include_usage else UNSET


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


class TextFormat(_Identity):
    """Bodies of ``/v1/completions``."""

    def __init__(
        self,
        served: ServedModel,
        *,
        include_usage: bool,
        logprobs_of: TokenText | None = None,
    ):
        super().__init__(served, "cmpl-", include_usage=include_usage, logprobs_of=logprobs_of)

    def whole(self, deltas: list[Delta], usage: Usage) -> TextCompletion:
        choices = [self._choice(delta) for delta in deltas]
        return TextCompletion(**self._shared, choices=choices, usage=usage)

    def opening(self) -> list[TextCompletion]:
        return []

    def chunks(self, delta: Delta) -> list[TextCompletion]:
        return [self._chunk(self._choice(delta))]

    def closing(self, usage: Usage) -> list[TextCompletion]:
        if not self._include_usage:
            return []
        return [TextCompletion(**self._shared, choices=[], usage=usage)]

    def _chunk(self, choice: TextChoice) -> TextCompletion:
        return TextCompletion(**self._shared, choices=[choice], usage=self._no_usage)

    def _choice(self, delta: Delta) -> TextChoice:
        logprobs = None if self._token_text is None else self._logprobs(delta.tokens)
        return TextChoice(delta.index, delta.reply.content, delta.finish_reason, logprobs)

    def _logprobs(self, tokens: list[ScoredToken]) -> TextLogprobs:
        return TextLogprobs(
            tokens=[self._name(scored.token.id) for scored in tokens],
            token_logprobs=[
                None if logprob is None else max(logprob, LEAST_LOGPROB)
                for logprob in (scored.token.logprob for scored in tokens)
            ],
            top_logprobs=[self._top(scored.token) for scored in tokens],
            text_offset=[scored.offset for scored in tokens],
        )

    def _top(self, token: Token) -> dict[str, float] | None:
        """The most likely tokens, and the one that came, as OpenAI does."""
        if token.logprob is None:
            return None
        top = (token.top_logprobs or {}) | {token.id: token.logprob}
        return {self._name(i): max(value, LEAST_LOGPROB) for i, value in top.items()}

    def _name(self, token: int) -> str:
        """The token's text; of one that is a part of a character, its bytes, as OpenAI does."""
        data = self._token_text.bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


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


def _fingerprint(served: ServedModel) -> str:
    """Changes when what answers changes: this program or the model's weights."""
    facts = f"{mlxnode.__version__} {served.id} {served.created} {served.size_bytes}"
    return f"fp_{hashlib.sha256(facts.encode()).hexdigest()[:10]}"
