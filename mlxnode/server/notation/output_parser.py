"""Separates a model's output, while it grows, into content, reasoning and tool calls."""

import json
import re
import uuid
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from mlxnode.server.notation.json_end import JsonEnd
from mlxnode.server.notation.notation import NO_NOTATION, CallNotation, Notation
from mlxnode.server.notation.overlap import overlap
from mlxnode.server.notation.tool_use import ToolUse

# The start of a call that is written as JSON, up to its arguments.
_JSON_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*"([\w-]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)

Section = Literal["content", "reasoning", "after call"]


class CallDelta(Struct):
    """New text of one tool call. The first delta of a call has its id and its name."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


class OutputDelta(Struct):
    """New output of a model, separated. Deltas of one output can be added up."""

    content: str = ""
    reasoning: str = ""
    calls: list[CallDelta] = []

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.calls)

    def add(self, other: "OutputDelta") -> None:
        self.content += other.content
        self.reasoning += other.reasoning
        for call in other.calls:
            self.add_call(call)

    def add_call(self, call: CallDelta) -> None:
        """Append ``call``; join it with the last delta if both are of the same call."""
        if self.calls and self.calls[-1].index == call.index:
            self.calls[-1].arguments += call.arguments
        else:
            self.calls.append(call)


@dataclass(frozen=True)
class _Syntax:
    start: str
    end: str

    @classmethod
    def of(cls, calls: CallNotation) -> "_Syntax":
        first, last = calls.call[0], calls.call[-1]
        assert isinstance(first, str) and isinstance(last, str)
        return cls(first.split("\n")[0], last.split("\n")[-1])


@dataclass
class _OpenCall:
    """The call that is being read. ``arguments`` is set once they are known to be JSON."""

    syntax: _Syntax
    opening: str  # the text up to the call, which becomes content if it is not a call
    arguments: JsonEnd | None = None


class OutputParser:
    """Splits a text, fed in parts, at the markers of its model.

    The result does not depend on where the parts are cut. White space around a marker belongs
    to the marker. A text that starts like a call is content if its syntax is wrong or the
    request did not offer the tool. Without any marker, the whole text is content.
    """

    def __init__(
        self,
        notation: Notation = NO_NOTATION,
        *,
        tools: ToolUse | None = None,
        is_thinking: bool = False,
    ):
        """Parse the output of one choice of a model that writes ``notation``.

        ``tools`` are the offered tools; None: a call is content. ``is_thinking``: the prompt
        ends within the reasoning.
        """
        self._names = set() if tools is None else {f.name for f in tools.functions}
        self._is_parallel = tools is None or tools.is_parallel
        self._section: Section = "reasoning" if is_thinking else "content"
        # For each section, the markers that end it, with the section or call that follows.
        self._markers: dict[Section, dict[str, Section | _Syntax]] = {
            "content": {},
            "reasoning": {},
            "after call": {},
        }
        if notation.thinking is not None:
            self._markers["content"][notation.thinking.start] = "reasoning"
            self._markers["reasoning"][notation.thinking.end] = "content"
        if tools is not None:
            syntax = _Syntax.of(tools.calls)
            self._markers["content"][syntax.start] = syntax
            if syntax.end:
                self._markers["after call"][syntax.end] = "content"
        self._has_markers = any(self._markers.values())
        self._is_after_marker = is_thinking
        self._held = ""  # text that is read, but not yet assigned
        self._call: _OpenCall | None = None
        self._delta = OutputDelta()
        self.num_calls = 0
        self.is_finished = False  # the remaining text is not wanted

    @property
    def is_reasoning(self) -> bool:
        return self._section == "reasoning"

    def wants(self, special: str) -> bool:
        """True if ``special``, the text of a special token, has a meaning at this position."""
        if self._call is not None or self._section == "after call":
            return True
        return any(special in marker for marker in self._markers[self._section])

    def feed(self, text: str, *, is_last: bool = False) -> OutputDelta:
        """Read the next part of the text.

        Returns the output that is certain now; with ``is_last``, all the output.
        """
        if not self._has_markers:
            return OutputDelta(text)  # the usual case: each token of each stream comes here
        self._held += text
        self._delta = OutputDelta()
        while self._advance(is_last):
            pass
        delta, self._delta = self._delta, OutputDelta()
        return delta

    def _advance(self, is_last: bool) -> bool:
        """Take one step through the held text; True if another step may be possible."""
        if self.is_finished or not (self._held or is_last):
            return False
        if self._call is not None:
            return self._read_call(self._call, is_last)
        return self._read_text(is_last)

    # --- text, up to the next marker ------------------------------------------------

    def _read_text(self, is_last: bool) -> bool:
        markers = self._markers[self._section]
        found = [(at, marker) for marker in markers if (at := self._held.find(marker)) >= 0]
        if not found:
            keep = 0 if is_last else self._num_uncertain(list(markers))
            self._emit(self._take(len(self._held) - keep))
            return False
        at, marker = min(found)
        text = self._take(at)
        self._emit(text.rstrip())
        opening = text[len(text.rstrip()) :] + self._take(len(marker))
        follows = markers[marker]
        if isinstance(follows, _Syntax):
            self._call = _OpenCall(follows, opening)
        else:
            self._section = follows
        self._is_after_marker = True
        return True

    def _num_uncertain(self, markers: list[str]) -> int:
        """The length of the suffix that may start a marker, with the white space before it."""
        keep = max((overlap(self._held, marker) for marker in markers), default=0)
        before = self._held[: len(self._held) - keep]
        return keep + (len(before) - len(before.rstrip()) if markers else 0)

    def _emit(self, text: str) -> None:
        if self._is_after_marker:
            text = text.lstrip()
            self._is_after_marker = not text
        if self._section == "content":
            self._delta.content += text
        elif self._section == "reasoning":
            self._delta.reasoning += text

    # --- calls ----------------------------------------------------------------------

    def _read_call(self, call: _OpenCall, is_last: bool) -> bool:
        if call.arguments is not None:
            return self._read_arguments(call.syntax, call.arguments)
        head = _JSON_HEAD.match(self._held)
        if head is None or head[1] not in self._names:
            return self._read_whole_call(call, is_last)
        self._take(head.end())
        self._start_call(call.syntax, head[1])
        call.arguments = JsonEnd()
        return True

    def _read_arguments(self, syntax: _Syntax, arguments: JsonEnd) -> bool:
        length = arguments.find(self._held)
        self._delta.add_call(CallDelta(self.num_calls - 1, self._take(length)))
        if arguments.is_found:
            self._end_call("after call" if syntax.end else "content")
        return bool(self._held)

    def _read_whole_call(self, call: _OpenCall, is_last: bool) -> bool:
        """Read a call that can be parsed only when it is complete."""
        end = call.syntax.end
        at = self._held.find(end) if end else -1
        if at < 0 and not is_last:
            return False
        text = self._take(at if at >= 0 else len(self._held))
        closing = self._take(len(end)) if at >= 0 else ""
        try:
            parsed = self._parse(call.syntax, text)
        except Exception:  # Parsers raise many kinds of errors for a text that is not a call.
            self._call = None
            self._is_after_marker = False
            self._delta.content += call.opening + text + closing
            return bool(self._held)
        for name, arguments in parsed if self._is_parallel else parsed[:1]:
            self._start_call(call.syntax, name)
            self._delta.add_call(CallDelta(self.num_calls - 1, arguments))
        self._end_call("content")
        return bool(self._held)

    def _parse(self, syntax: _Syntax, text: str) -> list[tuple[str, str]]:
        """The name and the arguments of each call. Raises any error for another text."""
        parsed = json.loads(text)
        calls = [
            (call["name"], call["arguments"])
            for call in (parsed if isinstance(parsed, list) else [parsed])
        ]
        if not calls or not all(
            name in self._names and isinstance(arguments, dict) for name, arguments in calls
        ):
            raise ValueError("not a call of one of the tools")
        return [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls]

    def _start_call(self, syntax: _Syntax, name: str) -> None:
        id = f"call_{uuid.uuid4().hex[:24]}"
        self._delta.calls.append(CallDelta(self.num_calls, "", id, name))
        self.num_calls += 1

    def _end_call(self, section: Section) -> None:
        self._call = None
        self._section = section
        self._is_after_marker = True
        self.is_finished = not self._is_parallel

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken
