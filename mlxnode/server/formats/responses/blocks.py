"""The items of an answer while they grow, each with its events."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from mlxnode.server.formats.chat.answers import TokenLogprob
from mlxnode.server.formats.responses import events
from mlxnode.server.formats.responses.answers import (
    FunctionCallItem,
    ItemStatus,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    SummaryText,
)
from mlxnode.server.formats.thoughts import seal


@dataclass(frozen=True)
class Place:
    """An item of an answer: its id, and its index among the items."""

    id: str
    index: int

    @property
    def item(self) -> dict[str, Any]:
        """The fields of an event within the item."""
        return {"item_id": self.id, "output_index": self.index}

    @property
    def content(self) -> dict[str, Any]:
        """The fields of an event within the only part of its content."""
        return {**self.item, "content_index": 0}

    @property
    def summary(self) -> dict[str, Any]:
        """The fields of an event within the only part of its summary."""
        return {**self.item, "summary_index": 0}


class Block(ABC):
    """An item: ``begin``, then ``add`` for each new text, then ``end``."""

    def __init__(self, place: Place):
        self.place = place
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        """All text of the item so far."""
        return "".join(self._texts)

    @abstractmethod
    def item(self, status: ItemStatus) -> OutputItem:
        """The item as it is now; an item in progress is empty."""

    @abstractmethod
    def add(self, text: str) -> list[events.Event]:
        """New text of the item."""

    def begin(self) -> list[events.Event]:
        item = self.item("in_progress")
        return [events.ItemAdded(output_index=self.place.index, item=item)]

    def end(self, status: ItemStatus) -> list[events.Event]:
        return [events.ItemDone(output_index=self.place.index, item=self.item(status))]


class MessageBlock(Block):
    """A message of one text part, with the log-probabilities of its tokens, if any."""

    def __init__(self, place: Place):
        super().__init__(place)
        self.logprobs: list[TokenLogprob] = []

    def item(self, status: ItemStatus) -> MessageItem:
        content = [] if status == "in_progress" else [OutputText(self.text, self.logprobs)]
        return MessageItem(self.place.id, status, content)

    def begin(self) -> list[events.Event]:
        return [*super().begin(), events.PartAdded(part=OutputText(""), **self.place.content)]

    def add(self, text: str, logprobs: list[TokenLogprob] | None = None) -> list[events.Event]:
        self._texts.append(text)
        self.logprobs += logprobs or []
        return [
            events.OutputTextDelta(delta=text, logprobs=logprobs or [], **self.place.content)
        ]

    def end(self, status: ItemStatus) -> list[events.Event]:
        part = OutputText(self.text, self.logprobs)
        return [
            events.OutputTextDone(text=part.text, logprobs=self.logprobs, **self.place.content),
            events.PartDone(part=part, **self.place.content),
            *super().end(status),
        ]


class ThoughtBlock(Block):
    """A thought. With ``seals``, the item has it in the form to send back, too."""

    def __init__(self, place: Place, *, seals: bool):
        super().__init__(place)
        self._seals = seals

    def item(self, status: ItemStatus) -> ReasoningItem:
        item = ReasoningItem(self.place.id, status)
        if status != "in_progress":
            self._fill(item)
            item.encrypted_content = seal(self.text) if self._seals else UNSET
        return item

    def _fill(self, item: ReasoningItem) -> None:
        item.content = [ReasoningText(self.text)]

    def begin(self) -> list[events.Event]:
        part = ReasoningText("")
        return [*super().begin(), events.PartAdded(part=part, **self.place.content)]

    def add(self, text: str) -> list[events.Event]:
        self._texts.append(text)
        return [events.ThoughtDelta(delta=text, **self.place.content)]

    def end(self, status: ItemStatus) -> list[events.Event]:
        part = ReasoningText(self.text)
        return [
            events.ThoughtDone(text=self.text, **self.place.content),
            events.PartDone(part=part, **self.place.content),
            *super().end(status),
        ]


class SummaryBlock(ThoughtBlock):
    """A thought where the client asks for summaries: it is its own summary."""

    def _fill(self, item: ReasoningItem) -> None:
        item.summary = [SummaryText(self.text)]

    def begin(self) -> list[events.Event]:
        added = events.SummaryPartAdded(part=SummaryText(""), **self.place.summary)
        return [*Block.begin(self), added]

    def add(self, text: str) -> list[events.Event]:
        self._texts.append(text)
        return [events.SummaryDelta(delta=text, **self.place.summary)]

    def end(self, status: ItemStatus) -> list[events.Event]:
        return [
            events.SummaryDone(text=self.text, **self.place.summary),
            events.SummaryPartDone(part=SummaryText(self.text), **self.place.summary),
            *Block.end(self, status),
        ]


class CallBlock(Block):
    """A call of a function."""

    def __init__(self, place: Place, call_id: str, name: str, namespace: str | None):
        super().__init__(place)
        self._call_id = call_id
        self._name = name
        self._namespace = UNSET if namespace is None else namespace

    def item(self, status: ItemStatus) -> FunctionCallItem:
        return FunctionCallItem(
            self.place.id,
            status,
            self._call_id,
            self._name,
            "" if status == "in_progress" else self.text,
            self._namespace,
        )

    def add(self, text: str) -> list[events.Event]:
        self._texts.append(text)
        return [events.ArgumentsDelta(delta=text, **self.place.item)]

    def end(self, status: ItemStatus) -> list[events.Event]:
        done = events.ArgumentsDone(arguments=self.text, **self.place.item)
        return [done, *super().end(status)]
