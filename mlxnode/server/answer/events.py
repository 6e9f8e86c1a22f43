"""The output of one choice as a stream of events, in the order in which the model wrote it."""

from collections.abc import Iterable

from msgspec import Struct

from mlxnode.server.parsing.output import OutputDelta


class Reasoning(Struct):
    """New text of the model's thoughts."""

    text: str


class Content(Struct):
    """New text of the answer itself."""

    text: str


class CallBegun(Struct):
    """A tool call begins. Calls are counted from 0; one is open at a time."""

    index: int
    id: str
    name: str


class CallArguments(Struct):
    """New text of the arguments of a call, which are JSON."""

    index: int
    text: str


class CallEnded(Struct):
    """The arguments of a call are complete, or the answer was cut within them."""

    index: int


Event = Reasoning | Content | CallBegun | CallArguments | CallEnded


class EventLog:
    """Collects the events of one choice; text that continues the last event is joined to it."""

    def __init__(self):
        self._events: list[Event] = []
        self._open_call: int | None = None

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, output: OutputDelta) -> None:
        """Append what one token has brought."""
        if output.reasoning:
            self._write(Reasoning, output.reasoning)
        if output.content:
            self.add_content(output.content)
        for call in output.calls:
            if call.id is not None and call.name is not None:
                self.end_call()
                self._open_call = call.index
                self._events.append(CallBegun(call.index, call.id, call.name))
            if call.arguments:
                self._write_arguments(call.index, call.arguments)

    def add_content(self, text: str) -> None:
        self._write(Content, text)

    def end_call(self) -> None:
        """End the call that is open, if one is."""
        if self._open_call is not None:
            self._events.append(CallEnded(self._open_call))
            self._open_call = None

    def take(self) -> list[Event]:
        """The events since the last time."""
        taken, self._events = self._events, []
        return taken

    def _write(self, kind: type[Reasoning] | type[Content], text: str) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(last, kind):
            last.text += text
        else:
            self.end_call()
            self._events.append(kind(text))

    def _write_arguments(self, index: int, text: str) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(last, CallArguments) and last.index == index:
            last.text += text
        else:
            self._events.append(CallArguments(index, text))


def content_of(events: Iterable[Event]) -> str:
    """The text of the answer itself, joined."""
    return "".join(event.text for event in events if isinstance(event, Content))


def reasoning_of(events: Iterable[Event]) -> str:
    """The model's thoughts, joined."""
    return "".join(event.text for event in events if isinstance(event, Reasoning))
