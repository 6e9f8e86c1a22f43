"""The events of a stream of ``/v1/responses``, by OpenAI's reference of its streaming events.

An item is added, filled by deltas and done, one after the other. ``output_index`` is its place
in the answer, ``content_index`` or ``summary_index`` that of a part in the item.
"""

from msgspec import Struct

from mlxnode.server.formats.chat.answers import TokenLogprob
from mlxnode.server.formats.responses.answers import (
    OutputItem,
    OutputText,
    ReasoningText,
    Response,
    SummaryText,
)


class Event(Struct, kw_only=True):
    """The writer counts the events of a stream from 0."""

    sequence_number: int = 0

    @property
    def kind(self) -> str:
        """The type of the event."""
        return str(self.__struct_config__.tag)


class _ResponseEvent(Event, kw_only=True):
    response: Response


class Created(_ResponseEvent, tag_field="type", tag="response.created"):
    pass


class InProgress(_ResponseEvent, tag_field="type", tag="response.in_progress"):
    pass


class Completed(_ResponseEvent, tag_field="type", tag="response.completed"):
    pass


class Incomplete(_ResponseEvent, tag_field="type", tag="response.incomplete"):
    pass


class Failed(_ResponseEvent, tag_field="type", tag="response.failed"):
    pass


class _ItemEvent(Event, kw_only=True):
    output_index: int
    item: OutputItem


class ItemAdded(_ItemEvent, tag_field="type", tag="response.output_item.added"):
    pass


class ItemDone(_ItemEvent, tag_field="type", tag="response.output_item.done"):
    pass


class _WithinItem(Event, kw_only=True):
    item_id: str
    output_index: int


class _ContentPart(_WithinItem, kw_only=True):
    content_index: int
    part: OutputText | ReasoningText


class PartAdded(_ContentPart, tag_field="type", tag="response.content_part.added"):
    pass


class PartDone(_ContentPart, tag_field="type", tag="response.content_part.done"):
    pass


class OutputTextDelta(
    _WithinItem, kw_only=True, tag_field="type", tag="response.output_text.delta"
):
    content_index: int
    delta: str
    logprobs: list[TokenLogprob]


class OutputTextDone(
    _WithinItem, kw_only=True, tag_field="type", tag="response.output_text.done"
):
    content_index: int
    text: str
    logprobs: list[TokenLogprob]


class ThoughtDelta(
    _WithinItem, kw_only=True, tag_field="type", tag="response.reasoning_text.delta"
):
    content_index: int
    delta: str


class ThoughtDone(
    _WithinItem, kw_only=True, tag_field="type", tag="response.reasoning_text.done"
):
    content_index: int
    text: str


class _SummaryPart(_WithinItem, kw_only=True):
    summary_index: int
    part: SummaryText


class SummaryPartAdded(
    _SummaryPart, tag_field="type", tag="response.reasoning_summary_part.added"
):
    pass


class SummaryPartDone(
    _SummaryPart, tag_field="type", tag="response.reasoning_summary_part.done"
):
    pass


class SummaryDelta(
    _WithinItem, kw_only=True, tag_field="type", tag="response.reasoning_summary_text.delta"
):
    summary_index: int
    delta: str


class SummaryDone(
    _WithinItem, kw_only=True, tag_field="type", tag="response.reasoning_summary_text.done"
):
    summary_index: int
    text: str


class ArgumentsDelta(
    _WithinItem, kw_only=True, tag_field="type", tag="response.function_call_arguments.delta"
):
    delta: str


class ArgumentsDone(
    _WithinItem, kw_only=True, tag_field="type", tag="response.function_call_arguments.done"
):
    arguments: str


EVENTS = (
    Created,
    InProgress,
    ItemAdded,
    PartAdded,
    OutputTextDelta,
    OutputTextDone,
    ThoughtDelta,
    ThoughtDone,
    SummaryPartAdded,
    SummaryDelta,
    SummaryDone,
    SummaryPartDone,
    ArgumentsDelta,
    ArgumentsDone,
    PartDone,
    ItemDone,
    Completed,
    Incomplete,
    Failed,
)
