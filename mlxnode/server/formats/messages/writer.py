"""Writes the answers of ``/v1/messages``."""

import enum
from typing import Any

import msgspec
from pydantic_core import from_json

from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import ChoiceDelta, FinishedChoice
from mlxnode.server.answer.events import CallArguments, CallBegun, CallEnded, Content, Event
from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.answer.writer import AnswerWriter, named_frame
from mlxnode.server.errors import ApiError
from mlxnode.server.formats.messages.answers import (
    AnswerBlock,
    AnswerMessage,
    MessageUsage,
    StopReason,
    Text,
    Thoughts,
    ToolUse,
)
from mlxnode.server.formats.messages.errors import to_envelope
from mlxnode.server.formats.messages.events import (
    BlockDelta,
    BlockDeltaBody,
    BlockStart,
    BlockStop,
    BlockTextDelta,
    InputDelta,
    MessageDelta,
    MessageStart,
    MessageStop,
    Ping,
    SignatureDelta,
    Stop,
    StreamEvent,
    ThinkingDelta,
)
from mlxnode.server.formats.thoughts import seal
from mlxnode.server.formats.writer import AnswerIdentity

_REASONS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}


class Display(enum.Enum):
    """What a client sees of the model's thoughts."""

    SHOWN = enum.auto()
    OMITTED = enum.auto()  # a block without text, whose signature holds the thoughts
    LEFT_OUT = enum.auto()


def _frame(chunk: msgspec.Struct) -> bytes:
    return named_frame(str(chunk.__struct_config__.tag), chunk)


class MessagesWriter(AnswerWriter):
    """Writes the answer to one request. A whole answer is what its stream adds up to."""

    early_keep_alive = _frame(Ping())

    end = b""  # the last chunk says that it is the last

    def __init__(self, served: ServedModel, *, display: Display, request_id: str):
        self._identity = AnswerIdentity.new("msg_", served)
        self._display = display
        self._request_id = request_id
        self._num_blocks = 0
        self._open: type[AnswerBlock] | None = None  # the kind of the last block, if it is open
        self._hidden: list[str] = []  # thoughts of the open block that are not shown
        self._stop = Stop("end_turn", None)

    def response(self, choices: list[FinishedChoice], usage: TokenCounts) -> AnswerMessage:
        [choice] = choices
        content = _added_up(self.chunks(choice))
        message = self._message(usage)
        message.content = content
        message.stop_reason = self._stop.stop_reason
        message.stop_sequence = self._stop.stop_sequence
        return message

    def opening_chunks(self, usage: TokenCounts) -> list[StreamEvent]:
        return [MessageStart(self._message(usage))]

    def chunks(self, delta: ChoiceDelta) -> list[StreamEvent]:
        chunks: list[StreamEvent] = []
        for event in delta.events:
            self._write(event, chunks)
        if delta.finish_reason is not None:
            self._close(chunks)
            reason = _REASONS[delta.finish_reason]
            if delta.stop_string is not None:
                reason = "stop_sequence"
            self._stop = Stop(reason, delta.stop_string)
        return chunks

    def closing_chunks(self, usage: TokenCounts) -> list[StreamEvent]:
        return [MessageDelta(self._stop, MessageUsage.of(usage)), MessageStop()]

    def frame(self, chunk: msgspec.Struct) -> bytes:
        return _frame(chunk)

    def keep_alive(self) -> bytes:
        return self.early_keep_alive

    def failure(self, error: ApiError) -> bytes:
        return self.early_failure(error, self._request_id)

    @classmethod
    def early_failure(cls, error: ApiError, request_id: str) -> bytes:
        return _frame(to_envelope(error, request_id))

    def _message(self, usage: TokenCounts) -> AnswerMessage:
        return AnswerMessage(
            id=self._identity.id,
            role="assistant",
            model=self._identity.model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=MessageUsage.of(usage),
        )

    def _write(self, event: Event, chunks: list[StreamEvent]) -> None:
        if isinstance(event, CallBegun):
            self._begin(ToolUse(event.id, event.name, {}), chunks)
        elif isinstance(event, CallArguments):
            chunks.append(self._delta(InputDelta(event.text)))
        elif isinstance(event, CallEnded):
            self._close(chunks)
        elif isinstance(event, Content):
            if self._open is not Text:
                self._begin(Text(""), chunks)
            chunks.append(self._delta(BlockTextDelta(event.text)))
        elif self._display is not Display.LEFT_OUT:
            if self._open is not Thoughts:
                self._begin(Thoughts("", ""), chunks)
            if self._display is Display.SHOWN:
                chunks.append(self._delta(ThinkingDelta(event.text)))
            else:
                self._hidden.append(event.text)

    def _begin(self, block: AnswerBlock, chunks: list[StreamEvent]) -> None:
        self._close(chunks)
        self._open = type(block)
        self._num_blocks += 1
        chunks.append(BlockStart(self._num_blocks - 1, block))

    def _close(self, chunks: list[StreamEvent]) -> None:
        """End the block that is open, if one is."""
        if self._open is Thoughts:
            chunks.append(self._delta(SignatureDelta(seal("".join(self._hidden)))))
            self._hidden = []
        if self._open is not None:
            chunks.append(BlockStop(self._num_blocks - 1))
            self._open = None

    def _delta(self, delta: BlockDeltaBody) -> BlockDelta:
        return BlockDelta(self._num_blocks - 1, delta)


def _added_up(chunks: list[StreamEvent]) -> list[AnswerBlock]:
    """The blocks that the events of a stream make."""
    blocks: list[AnswerBlock] = []
    texts: list[list[str]] = []
    for chunk in chunks:
        if isinstance(chunk, BlockStart):
            blocks.append(chunk.content_block)
            texts.append([])
        elif isinstance(chunk, BlockDelta):
            match chunk.delta:
                case BlockTextDelta(text) | ThinkingDelta(text) | InputDelta(text):
                    texts[-1].append(text)
                case SignatureDelta(signature):
                    assert isinstance(blocks[-1], Thoughts)
                    blocks[-1].signature = signature
    for block, parts in zip(blocks, texts, strict=True):
        text = "".join(parts)
        match block:
            case Text():
                block.text = text
            case Thoughts():
                block.thinking = text
            case ToolUse():
                block.input = _input(text)
    return blocks


def _input(text: str) -> dict[str, Any]:
    """The arguments of a call; if it was cut, the members that are complete.

    Anthropic's packages read the stream of a call that was cut in the same way.
    """
    try:
        value = from_json(text, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
