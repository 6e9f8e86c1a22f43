"""Reads harmony, the notation of gpt-oss: messages with headers that name their channel.

Source: OpenAI's description of the harmony response format.
"""

import re

from mlxnode.server.notation.tool_use import Function
from mlxnode.server.parsing.brackets import Misread, take_brackets
from mlxnode.server.parsing.call_list import CallList
from mlxnode.server.parsing.call_objects import NAME_PREFIX, new_call, without_arguments
from mlxnode.server.parsing.markers import MarkerSet
from mlxnode.server.parsing.output import OutputWriter, Section
from mlxnode.server.parsing.source import Reading, TextSource
from mlxnode.server.parsing.values import read_value

_STARTS = ("<|start|>", "<|channel|>")
_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_CONSTRAIN = "<|constrain|>"
HARMONY_TOKENS = (*_STARTS, _MESSAGE, *_ENDS, _CONSTRAIN)

_MAX_HEADER = 512  # characters
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_ROLE = "assistant"


class HarmonyReader:
    """Reads messages: the channel ``analysis`` is reasoning, a recipient makes a call.

    All else is content, also a text without any header.
    """

    def __init__(
        self,
        source: TextSource,
        output: OutputWriter,
        calls: CallList | None,
        *,
        is_thinking: bool,
    ):
        """``calls`` is None if no tools are offered. ``is_thinking``: a prompt ends in it."""
        self.section: Section = "reasoning" if is_thinking else "content"
        self._source = source
        self._output = output
        self._calls = calls
        self._markers = MarkerSet(HARMONY_TOKENS)

    def read(self) -> Reading[None]:
        source = self._source
        yield from self._skip_role()
        while self._calls is None or not self._calls.is_finished:
            marker = yield from self._read_text()
            if not marker:
                break
            self._output.skip_marker("\n\n")
            if marker in _STARTS:
                yield from self._read_header()
                continue
            source.take(len(marker))
            if marker in _ENDS:
                self.section = "content"
                yield from self._skip_role()
        self._output.end(self.section)

    def _read_text(self) -> Reading[str]:
        source = self._source
        while True:
            length, marker = self._markers.find(source)
            if source.is_last and source.is_cut and not marker:
                length -= self._markers.num_partial(source)
            self._output.write(self.section, source.take_visible(length))
            if marker or not (yield from source.more()):
                return marker

    def _skip_role(self) -> Reading[None]:
        """Leave out the role of a header whose start is missing."""
        source = self._source
        if (yield from source.next_of((_ROLE,))) and (
            yield from source.follows(len(_ROLE), ("<|channel|>", _MESSAGE, "to="))
        ):
            source.take(len(_ROLE))

    def _read_header(self) -> Reading[None]:
        """Read a header up to its message, and the message if it is a call."""
        source = self._source
        offset = source.mark()
        marker = yield from source.next_of(_STARTS)
        header = source.take(len(marker))
        is_complete = False
        while len(header) < _MAX_HEADER:
            length, marker = self._markers.find(source)
            header += source.take(min(length, _MAX_HEADER))
            if marker == _MESSAGE:
                source.take(len(marker))
                is_complete = True
            elif marker and marker not in _ENDS:
                header += source.take(len(marker))
                continue
            if marker or not (yield from source.more()):
                break
        channel, recipient = _CHANNEL.search(header), _RECIPIENT.search(header)
        self.section = "reasoning" if channel and channel[1] == "analysis" else "content"
        if is_complete:
            function = self._function(recipient[1]) if recipient else None
            if function is not None:
                yield from self._read_call(function)
        elif not source.ran_short and len(header) >= _MAX_HEADER:
            self._output.write("content", source.visible_since(offset))
        source.unmark()

    def _function(self, recipient: str) -> Function | None:
        functions = {} if self._calls is None else self._calls.functions
        return functions.get(recipient) or functions.get(recipient.removeprefix(NAME_PREFIX))

    def _read_call(self, function: Function) -> Reading[None]:
        source, calls = self._source, self._calls
        assert calls is not None
        source.unmark()
        offset = source.mark()
        self.section = "content"
        yield from source.skip_space()
        sign = yield from source.peek()
        try:
            if sign == "{" and calls.can_be_live:
                call = calls.start_live(function.name, None)
                yield from take_brackets(source, stops=(), tell=call.tell)
                calls.end_live(call)
            elif sign == "{":
                text = yield from take_brackets(source, stops=())
                calls.add(new_call(function, read_value(text)))
            elif (sign or not source.is_cut) and (yield from source.follows(0, HARMONY_TOKENS)):
                calls.add(without_arguments(function))
            else:
                raise Misread
        except (Misread, ValueError, RecursionError):
            if source.is_cut and source.ran_short:
                source.take(len(source.text))
            elif not source.go_back(offset):
                self._output.write("content", source.visible_since(offset))
        self._output.skip_marker("\n\n")
