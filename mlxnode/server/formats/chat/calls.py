"""Calls in the answers of ``/v1/chat/completions``: of tools, or as they were before tools."""

from collections.abc import Iterable

from mlxnode.server.answer.choice import FinishReason
from mlxnode.server.answer.events import CallArguments, CallBegun, Event
from mlxnode.server.formats.chat.answers import (
    CalledFunction,
    CalledFunctionDelta,
    ChatDelta,
    ChatFinishReason,
    ChatMessage,
    ToolCall,
    ToolCallDelta,
)


class ToolCallWriter:
    """Writes calls as ``tool_calls``."""

    def add_to(self, message: ChatMessage, events: Iterable[Event]) -> bool:
        """Write the whole calls; True if there are any."""
        calls: list[ToolCall] = []
        for event in events:
            if isinstance(event, CallBegun):
                calls.append(ToolCall(event.id, CalledFunction(event.name, "")))
            elif isinstance(event, CallArguments):
                calls[-1].function.arguments += event.text
        if calls:
            message.tool_calls = calls
        return bool(calls)

    def add_to_delta(self, delta: ChatDelta, events: Iterable[Event]) -> bool:
        """Write what is new: one delta a call, with its name if it begins here."""
        deltas: dict[int, ToolCallDelta] = {}
        for event in events:
            if isinstance(event, CallBegun):
                function = CalledFunctionDelta("", event.name)
                deltas[event.index] = ToolCallDelta(event.index, function, event.id, "function")
            elif isinstance(event, CallArguments):
                new = ToolCallDelta(event.index, CalledFunctionDelta(""))
                deltas.setdefault(event.index, new).function.arguments += event.text
        if deltas:
            delta.tool_calls = list(deltas.values())
        return bool(deltas)

    def finish_reason(self, reason: FinishReason) -> ChatFinishReason:
        return reason


class FunctionCallWriter(ToolCallWriter):
    """Writes the only call as ``function_call``, which has no id."""

    def add_to(self, message: ChatMessage, events: Iterable[Event]) -> bool:
        called = self._called(events)
        if called is None:
            return False
        assert isinstance(called.name, str)  # the events are those of a whole call
        message.function_call = CalledFunction(called.name, called.arguments)
        return True

    def add_to_delta(self, delta: ChatDelta, events: Iterable[Event]) -> bool:
        called = self._called(events)
        if called is None:
            return False
        delta.function_call = called
        return True

    def finish_reason(self, reason: FinishReason) -> ChatFinishReason:
        return "function_call" if reason == "tool_calls" else reason

    @staticmethod
    def _called(events: Iterable[Event]) -> CalledFunctionDelta | None:
        """The name, if the call begins here, and what is new of the arguments."""
        called: CalledFunctionDelta | None = None
        for event in events:
            if isinstance(event, CallBegun):
                called = CalledFunctionDelta("", event.name)
            elif isinstance(event, CallArguments):
                called = called or CalledFunctionDelta("")
                called.arguments += event.text
        return called
