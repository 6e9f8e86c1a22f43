"""Reads calls from a text that arrives in parts, by the notation of the model."""

import contextlib
import re

from mlxnode.server.notation.notation import Field
from mlxnode.server.notation.tool_use import Function
from mlxnode.server.parsing.arguments import parameter_names
from mlxnode.server.parsing.brackets import Misread, take_brackets
from mlxnode.server.parsing.call_list import CallList, LiveCall, ReadCall
from mlxnode.server.parsing.call_objects import (
    FIRST_KEYS,
    NAME_KEYS,
    NAME_PREFIX,
    calls_in,
    head_pattern,
    new_call,
    without_arguments,
)
from mlxnode.server.parsing.call_syntax import CallSyntax
from mlxnode.server.parsing.source import Reading, TextSource
from mlxnode.server.parsing.tagged import TaggedReader
from mlxnode.server.parsing.values import read_members, read_value

_FENCES = ("```json", "```")
_OBJECT_STARTS = ("{", "[", *_FENCES)
_MAX_FIELD = 128  # characters of an id
_MAX_HEAD = 512  # characters before the arguments of a call that is told while it is written

# An object's first key; the same with a text as its value; and the starts of these.
_KEY = re.compile(r'\{\s*"(\w+)"')
_KEY_START = re.compile(r'\{\s*(?:"\w*)?')
_NAME = re.compile(r'\{\s*"\w+"\s*:\s*"([\w.-]*)"')
_NAME_START = re.compile(r'\{\s*"\w+"\s*(?::\s*(?:"[\w.-]*)?)?')


class CallReader:
    """Reads one call after the other. White space is free wherever the notation has some."""

    def __init__(self, source: TextSource, syntax: CallSyntax, calls: CallList):
        self.is_closed = True  # the end of the last call was read
        self._syntax = syntax
        self._source = source
        self._calls = calls
        self._names = [*calls.functions, *(f"{NAME_PREFIX}{name}" for name in calls.functions)]
        self._live_head = head_pattern(list(calls.functions), is_keyed=syntax.is_keyed)
        self._tagged: TaggedReader | None = None
        if syntax.arguments is not None and not syntax.has_brackets:
            self._tagged = TaggedReader(source, syntax, syntax.arguments)

    @property
    def is_open(self) -> bool:
        """True if the end of the last call has not come yet."""
        return not self.is_closed

    def read(self, *, may_be_live: bool) -> Reading[list[ReadCall]]:
        """Read the call that begins here, with or without its openers; or several in a list.

        With ``may_be_live``, a call may be told while it is written. It is not returned then.

        Raises:
            Misread: there is no call of an offered function.
        """
        self.is_closed = False
        is_live = may_be_live and self._calls.can_be_live
        lead = yield from self._take_lead()
        if (yield from self._source.next_of(_OBJECT_STARTS)):
            return (yield from self._read_objects(is_live))
        if not self._syntax.head:
            raise Misread
        function, own_id = yield from self._read_head(lead)
        return (yield from self._read_named(function, own_id, is_live))

    def read_bare(self, *, may_be_live: bool) -> Reading[list[ReadCall]]:
        """Read a call that nothing announces: an object with the name of a function.

        Raises:
            Misread: there is none.
        """
        if not (yield from self._starts_as_call()):
            raise Misread
        self.is_closed = False
        is_bare = self._syntax.is_bare
        calls = yield from self._read_objects(
            may_be_live and is_bare and self._calls.can_be_live
        )
        if not is_bare:
            yield from self._source.skip_space()
            if not (yield from self._source.next_of(self._syntax.closers)):
                raise Misread
        return calls

    def read_end(self) -> Reading[None]:
        """Read what closes the calls before."""
        while (yield from self._take_any(self._syntax.closers)):
            self.is_closed = True

    def read_next(self, *, may_be_live: bool) -> Reading[list[ReadCall] | None]:
        """Read another call within the same block; None if there is none."""
        source = self._source
        source.unmark()  # The calls before are told; there is no way back behind them.
        offset = source.mark()
        has_separator = yield from self._take_any(self._syntax.separators)
        yield from source.skip_space()
        is_object = (yield from source.peek()) == "{"
        if has_separator or (is_object and not self.is_closed):
            try:
                return (yield from self.read(may_be_live=may_be_live))
            except Misread:
                if source.is_cut and source.ran_short:
                    source.take(len(source.text))
                    return None
        source.go_back(offset)
        return None

    def _take_any(self, literals: tuple[str, ...]) -> Reading[str]:
        """Take the one of ``literals`` that comes after white space; "" if there is none."""
        yield from self._source.skip_space()
        token = yield from self._source.next_of(literals)
        return self._source.take(len(token))

    # --- names outside of the JSON --------------------------------------------------

    def _take_lead(self) -> Reading[str]:
        """Take what announces a call, each text at most once; returns the last."""
        last, rest = "", self._syntax.lead
        while token := (yield from self._take_any(rest)):
            last, rest = token, tuple(literal for literal in rest if literal != token)
        return last

    def _read_head(self, lead: str) -> Reading[tuple[Function, str | None]]:
        """Read from the first field to the arguments. Texts between them may be missing."""
        head = self._syntax.head
        first = next(i for i, element in enumerate(head) if isinstance(element, Field))
        has_token = first == 0 or lead == head[first - 1]
        name, own_id = "", None
        for place, element in enumerate(head[first:], first):
            if isinstance(element, str):
                has_token = bool((yield from self._take_any((element,))))
            elif element is Field.NAME:
                name = yield from self._read_name()
                if lead.endswith(">"):
                    yield from self._take_any(self._syntax.name_closers)
            elif has_token:
                end = head[place + 1] if place + 1 < len(head) else "{"
                field = yield from self._source.take_until(str(end), _MAX_FIELD)
                if field is None:
                    raise Misread
                own_id = field.strip() if element is Field.ID else own_id
        return self._calls.functions[name], own_id

    def _read_name(self) -> Reading[str]:
        source = self._source
        yield from source.skip_space()
        name = yield from source.next_of(self._names)
        following = (yield from source.ahead(len(name) + 1))[len(name) :]
        if not name or following.isalnum() or following in ("_", "-"):
            raise Misread
        source.take(len(name))
        return name if name in self._calls.functions else name.removeprefix(NAME_PREFIX)

    def _read_named(
        self, function: Function, own_id: str | None, is_live: bool
    ) -> Reading[list[ReadCall]]:
        source = self._source
        yield from source.skip_space()
        if self._syntax.has_brackets:
            if (yield from source.peek()) not in ("(", "{"):
                raise Misread
            text = yield from self._take_brackets(has_gemma_quotes=self._syntax.is_gemma)
            return [new_call(function, _members_in(text), own_id, is_loose=True)]
        if (yield from source.next_of(("{", *_FENCES))):
            is_live = is_live and not self._syntax.has_late_id
            return (yield from self._read_json_arguments(function, own_id, is_live))
        arguments: dict[str, object] = {}
        if self._tagged is not None:
            arguments = yield from self._tagged.read(parameter_names(function))
        if not (yield from source.peek()) and source.is_cut:
            raise Misread  # More arguments could have come.
        if arguments:
            return [new_call(function, arguments, own_id, is_loose=True)]
        if not (yield from source.follows(0, (*self._syntax.closers, *self._syntax.openers))):
            raise Misread
        return [without_arguments(function, own_id)]

    # --- JSON -----------------------------------------------------------------------

    def _read_json_arguments(
        self, function: Function, own_id: str | None, is_live: bool
    ) -> Reading[list[ReadCall]]:
        fence = yield from self._take_any(_FENCES)
        yield from self._source.skip_space()
        if (yield from self._source.peek()) != "{":
            raise Misread
        if is_live:
            yield from self._tell(self._calls.start_live(function.name, own_id))
            return []
        arguments = _object_in((yield from self._take_brackets()))
        if fence:
            yield from self._take_any(("```",))
        return [new_call(function, arguments, own_id)]

    def _read_objects(self, is_live: bool) -> Reading[list[ReadCall]]:
        source = self._source
        if is_live and (head := (yield from self._find_live_head())) is not None:
            source.take(head.end() - head.start())
            yield from self._tell(self._calls.start_live(head["name"], head["id"]))
            yield from self._take_any(("}",))
            return []
        fence = yield from self._take_any(_FENCES)
        yield from source.skip_space()
        if (yield from source.peek()) not in ("{", "["):
            raise Misread
        calls = calls_in((yield from self._take_brackets()), self._calls.functions)
        if fence:
            yield from self._take_any(("```",))
        return calls

    def _find_live_head(self) -> Reading[re.Match[str] | None]:
        source = self._source
        while not self._syntax.has_late_id:
            found = self._live_head.match(source.text, source.at, source.at + _MAX_HEAD)
            if found or len(source.text) - source.at >= _MAX_HEAD:
                return found
            if not (yield from source.more()):
                break
        return None

    def _tell(self, call: LiveCall) -> Reading[None]:
        with contextlib.suppress(Misread):  # The answer was cut off: that part is told.
            yield from take_brackets(self._source, stops=self._syntax.stops, tell=call.tell)
        self._calls.end_live(call)

    def _take_brackets(self, *, has_gemma_quotes: bool = False) -> Reading[str]:
        return take_brackets(
            self._source, stops=self._syntax.stops, has_gemma_quotes=has_gemma_quotes
        )

    def _starts_as_call(self) -> Reading[bool]:
        """True if the text is an object that may be a call, as far as its first key tells."""
        key = yield from self._source.match(_KEY, _KEY_START)
        if key is None or key[1] not in FIRST_KEYS:
            return False
        if key[1] not in NAME_KEYS:
            return True
        name = yield from self._source.match(_NAME, _NAME_START)
        return name is not None and name[1] in self._names


def _object_in(text: str) -> dict[str, object]:
    try:
        value = read_value(text)
    except (ValueError, RecursionError) as error:
        raise Misread from error
    if not isinstance(value, dict):
        raise Misread
    return value


def _members_in(text: str) -> dict[str, object]:
    try:
        return read_members(text)
    except (ValueError, RecursionError) as error:
        raise Misread from error
