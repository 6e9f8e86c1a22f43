"""The calls of one answer: which may be made, and how they are told to the client."""

import re
import uuid
from dataclasses import dataclass
from typing import Any

from mlxnode.server.notation.tool_use import Function, ToolUse
from mlxnode.server.parsing.output import CallDelta, OutputWriter, to_json
from mlxnode.server.parsing.values import read_value

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")


@dataclass(frozen=True)
class ReadCall:
    """A complete call. ``arguments`` is their JSON text; ``id`` is the model's own."""

    name: str
    arguments: str
    id: str | None = None


class LiveCall:
    """A call that is told while it is written."""

    def __init__(self, index: int, name: str, output: OutputWriter):
        self.name = name
        self._index = index
        self._output = output
        self._pieces: list[str] = []

    def tell(self, piece: str) -> None:
        self._pieces.append(piece)
        self._output.add_call(CallDelta(self._index, piece))

    @property
    def arguments(self) -> str:
        return "".join(self._pieces)


class CallList:
    """Numbers the calls of an answer and gives them ids; knows when the answer is complete."""

    def __init__(self, tools: ToolUse, output: OutputWriter):
        self.functions: dict[str, Function] = {f.name: f for f in tools.functions}
        self.is_finished = False
        self._tools = tools
        self._output = output
        self._ids: set[str] = set()
        self._seen: set[tuple[str, str]] = set()
        self.num_calls = 0

    @property
    def can_be_live(self) -> bool:
        """True if a grammar keeps the next call valid and it needs not be compared."""
        first = self.num_calls == 0
        return self._tools.is_enforced and (first or not self._tools.must_call)

    def start_live(self, name: str, own_id: str | None) -> LiveCall:
        """Tell that a call has begun."""
        self._output.decide("content")
        self._output.skip_marker("\n")
        function = self.functions.get(name)
        told = name if function is None else function.client_name or name
        self._output.add_call(CallDelta(self.num_calls, "", self._new_id(own_id), told))
        self.num_calls += 1
        return LiveCall(self.num_calls - 1, name, self._output)

    def end_live(self, call: LiveCall) -> None:
        self._end(call.name, call.arguments)

    def add(self, call: ReadCall) -> None:
        """Tell a call, if the answer is not complete without it."""
        if self.is_finished:
            return
        if self._tools.must_call and _key(call.name, call.arguments) in self._seen:
            # A model that must call and has nothing else to say repeats itself without end.
            self.is_finished = True
            return
        self.start_live(call.name, call.id).tell(call.arguments)
        self._end(call.name, call.arguments)

    def _end(self, name: str, arguments: str) -> None:
        if self._tools.must_call:
            self._seen.add(_key(name, arguments))
        self.is_finished = self.num_calls == self._tools.max_calls

    def _new_id(self, own_id: str | None) -> str:
        is_short = self._tools.calls.short_ids
        pattern = _SHORT_ID if is_short else _ID
        if own_id is None or own_id in self._ids or not pattern.fullmatch(own_id):
            own_id = uuid.uuid4().hex
            own_id = own_id[:9] if is_short else f"call_{own_id[:24]}"
        self._ids.add(own_id)
        return own_id


def _key(name: str, arguments: str) -> tuple[str, str]:
    """Equal for calls that mean the same."""
    try:
        value: Any = read_value(arguments)
        return name, to_json(_sorted(value))
    except (ValueError, RecursionError):
        return name, arguments


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
