"""The events of a stream of ``/v1/messages``; the tag of each is also its event name."""

from msgspec import Struct

from mlxnode.server.formats.messages.answers import (
    AnswerBlock,
    AnswerMessage,
    MessageUsage,
    StopReason,
)


class MessageStart(Struct, tag_field="type", tag="message_start"):
    message: AnswerMessage


class BlockStart(Struct, tag_field="type", tag="content_block_start"):
    index: int
    content_block: AnswerBlock


class BlockTextDelta(Struct, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, tag_field="type", tag="signature_delta"):
    signature: str


class InputDelta(Struct, tag_field="type", tag="input_json_delta"):
    """New text of a call's arguments, which are JSON."""

    partial_json: str


BlockDeltaBody = BlockTextDelta | ThinkingDelta | SignatureDelta | InputDelta


class BlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    index: int
    delta: BlockDeltaBody


class BlockStop(Struct, tag_field="type", tag="content_block_stop"):
    index: int


class Stop(Struct):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    """The end of the answer, and the counts of the whole request."""

    delta: Stop
    usage: MessageUsage


class MessageStop(Struct, tag_field="type", tag="message_stop"):
    pass


class Ping(Struct, tag_field="type", tag="ping"):
    """The answer is still being made."""


StreamEvent = (
    MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping
)
