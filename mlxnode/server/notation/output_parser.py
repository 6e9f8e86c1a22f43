"""A chat model's output told apart as it grows: its reasoning, its answer, its tool calls."""

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from mlxnode.server.answer.stop_strings import overlap

# The head of a call that is written as JSON, up to where its arguments begin.
_JSON_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*"([\w-]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)

State = Literal["content", "reasoning", "call", "after call"]


@dataclass(frozen=True)
class ToolSyntax:
    """How a model writes its calls: what begins and ends one, and a parser of what is between.

    ``end`` is "" where a call lasts until the text ends. The parser takes the text and the
    request's tools, returns one call or a list of them, each with ``name`` and ``arguments``,
    and raises anything for what is no call. ``is_json``: a call is a JSON object of these two.
    """

    begin: str
    end: str
    parse: Callable[[str, list[dict[str, Any]]], Any]
    is_json: bool = False
    has_short_ids: bool = False  # nine characters, which is all that Mistral's templates take


PLAIN_SYNTAX = ToolSyntax(
    "<tool_call>", "</tool_call>", lambda text, _: json.loads(text), is_json=True
)


@dataclass
class CallPiece:
    """A piece of a tool call: the first one has its id and name, then come the arguments."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass
class Reply:
    """What a text brought."""

    content: str = ""
    reasoning: str = ""
    calls: list[CallPiece] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.calls)

    def add(self, other: "Reply") -> None:
        self.content += other.content
        self.reasoning += other.reasoning
        for piece in other.calls:
            self.add_call(piece)

    def add_call(self, piece: CallPiece) -> None:
        """Pieces of one call that follow each other become one."""
        if self.calls and self.calls[-1].index == piece.index:
            self.calls[-1].arguments += piece.arguments
        else:
            self.calls.append(piece)


class ReplyReader:
    """Splits a text, given in pieces, at the markers of its model.

    Where the pieces are cut makes no difference. White space around a marker belongs to it.
    What begins like a call but is none, by its form or because nobody offered that tool, is
    content.
    """

    def __init__(
        self,
        *,
        thinking: tuple[str, str] | None = None,
        is_thinking: bool = False,
        syntax: ToolSyntax | None = None,
        tools: list[dict[str, Any]] | None = None,
        is_parallel: bool = True,
    ):
        """``is_thinking``: the prompt has begun the reasoning. ``tools`` are those offered, as
        in OpenAI's API; without ``is_parallel`` the first call is the last."""
        self._syntax = syntax
        self._tools = tools or []
        self._names = {tool["function"]["name"] for tool in self._tools}
        self._is_parallel = is_parallel
        self._state: State = "reasoning" if is_thinking else "content"
        self._markers: dict[State, dict[str, State]] = {"content": {}, "reasoning": {}}
        if thinking is not None:
            begin, end = thinking
            self._markers["content"][begin] = "reasoning"
            self._markers["reasoning"][end] = "content"
        if syntax is not None:
            self._markers["content"][syntax.begin] = "call"
            if syntax.end:
                self._markers["after call"] = {syntax.end: "content"}
        self._is_after_marker = is_thinking
        self._held = ""  # read, but not yet told apart
        self._opening = ""  # what began the call that is being read
        self._arguments: _JsonEnd | None = None  # of the call that is being read
        self._reply = Reply()
        self.num_calls = 0
        self.is_finished = False  # nothing that follows is wanted

    @property
    def is_reasoning(self) -> bool:
        return self._state == "reasoning"

    def wants(self, special: str) -> bool:
        """Whether the text of a special token, which is not shown, means something here."""
        if self._state in ("call", "after call"):
            return True
        return any(special in marker for marker in self._markers[self._state])

    def feed(self, text: str, *, is_last: bool = False) -> Reply:
        """Take a piece, return what is certain now; with ``is_last``, everything."""
        self._held += text
        self._reply = Reply()
        while self._advance(is_last):
            pass
        reply, self._reply = self._reply, Reply()
        return reply

    def _advance(self, is_last: bool) -> bool:
        """Take one step through what is held; whether there may be another."""
        if self.is_finished or not (self._held or is_last):
            return False
        if self._state == "call":
            return self._read_call(is_last)
        return self._read_text(is_last)

    # --- text, up to the next marker ------------------------------------------------

    def _read_text(self, is_last: bool) -> bool:
        markers = self._markers.get(self._state, {})
        found = [(at, marker) for marker in markers if (at := self._held.find(marker)) >= 0]
        if not found:
            keep = 0 if is_last else self._num_uncertain(markers)
            self._tell(self._take(len(self._held) - keep))
            return False
        at, marker = min(found)
        text = self._take(at)
        self._tell(text.rstrip())
        self._opening = text[len(text.rstrip()) :] + self._take(len(marker))
        self._state = markers[marker]
        self._is_after_marker = True
        return True

    def _num_uncertain(self, markers: dict[str, State]) -> int:
        """Characters at the end that may begin a marker, white space before it included."""
        keep = max((overlap(self._held, marker) for marker in markers), default=0)
        before = self._held[: len(self._held) - keep]
        return keep + (len(before) - len(before.rstrip()) if markers else 0)

    def _tell(self, text: str) -> None:
        if self._is_after_marker:
            text = text.lstrip()
            self._is_after_marker = not text
        if self._state == "content":
            self._reply.content += text
        elif self._state == "reasoning":
            self._reply.reasoning += text

    # --- calls ----------------------------------------------------------------------

    def _read_call(self, is_last: bool) -> bool:
        if self._arguments is not None:
            return self._read_arguments()
        head = _JSON_HEAD.match(self._held)
        if head is None or head[1] not in self._names:
            return self._read_whole_call(is_last)
        self._take(head.end())
        self._begin_call(head[1])
        self._arguments = _JsonEnd()
        return True

    def _read_arguments(self) -> bool:
        length = self._arguments.find(self._held)
        self._reply.add_call(CallPiece(self.num_calls - 1, self._take(length)))
        if self._arguments.is_found:
            self._arguments = None
            self._end_call("after call" if self._syntax.end else "content")
        return bool(self._held)

    def _read_whole_call(self, is_last: bool) -> bool:
        """A call that can be understood only once it has ended."""
        end = self._syntax.end
        at = self._held.find(end) if end else -1
        if at < 0 and not is_last:
            return False
        text = self._take(at if at >= 0 else len(self._held))
        closing = self._take(len(end)) if at >= 0 else ""
        try:
            calls = self._parse(text)
        except Exception:  # Parsers raise whatever they meet in what is no call.
            self._state = "content"
            self._is_after_marker = False
            self._reply.content += self._opening + text + closing
            return bool(self._held)
        for name, arguments in calls if self._is_parallel else calls[:1]:
            self._begin_call(name)
            self._reply.add_call(CallPiece(self.num_calls - 1, arguments))
        self._end_call("content")
        return bool(self._held)

    def _parse(self, text: str) -> list[tuple[str, str]]:
        """Each call's name and arguments. Raises any error for what is none."""
        parsed = self._syntax.parse(text, self._tools)
        calls = [
            (call["name"], call["arguments"])
            for call in (parsed if isinstance(parsed, list) else [parsed])
        ]
        if not calls or not all(
            name in self._names and isinstance(arguments, dict) for name, arguments in calls
        ):
            raise ValueError("not a call of one of the tools")
        return [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls]

    def _begin_call(self, name: str) -> None:
        id = uuid.uuid4().hex
        id = id[:9] if self._syntax.has_short_ids else f"call_{id[:24]}"
        self._reply.calls.append(CallPiece(self.num_calls, "", id, name))
        self.num_calls += 1

    def _end_call(self, state: State) -> None:
        self._state = state
        self._is_after_marker = True
        self.is_finished = not self._is_parallel

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken


class _JsonEnd:
    """Finds where a JSON object that arrives in pieces ends."""

    _STRUCTURE = re.compile(r'["{}\[\]\\]')

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False  # the next character belongs to the backslash before it
        self.is_found = False

    def find(self, text: str) -> int:
        """How much of the next piece belongs to the object."""
        at = 1 if self._is_escaped else 0
        self._is_escaped = False
        while match := self._STRUCTURE.search(text, at):
            at = match.end()
            if match[0] == "\\":
                self._is_escaped = at == len(text)
                at += 1
            elif match[0] == '"':
                self._is_in_string = not self._is_in_string
            elif not self._is_in_string:
                self._depth += 1 if match[0] in "{[" else -1
                if self._depth == 0:
                    self.is_found = True
                    return at
        return len(text)
