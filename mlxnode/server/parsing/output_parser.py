"""Separates a model's output, while it grows, into content, reasoning and tool calls."""

from mlxnode.server.notation.notation import GEMMA_QUOTE, NO_NOTATION, Notation, ValueStyle
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.parsing.brackets import Misread
from mlxnode.server.parsing.call_list import CallList, ReadCall
from mlxnode.server.parsing.call_reader import CallReader
from mlxnode.server.parsing.call_syntax import COMMON_TAGS, CallSyntax
from mlxnode.server.parsing.harmony import HARMONY_TOKENS, HarmonyReader
from mlxnode.server.parsing.markers import MarkerSet
from mlxnode.server.parsing.output import CallDelta, OutputDelta, OutputWriter, Section
from mlxnode.server.parsing.source import Reading, TextSource

FEW_WORDS = 32  # characters
MANY_WORDS = 1000

__all__ = ["CallDelta", "OutputDelta", "OutputParser"]


class OutputParser:
    """Splits a text, fed in parts, by the notation of its model.

    The result does not depend on where the parts are cut. A text that starts like a call is
    content if it cannot be read as a call of an offered function. Without any marker, the
    whole text is content.

    A call in the reasoning is one only if the text ends with it: a model that goes on has only
    thought of it. An end of the reasoning without a beginning is left out. What came before is
    reasoning if it is no more than ``FEW_WORDS``, which are held: to hold more would stop the
    stream of every answer without reasoning, and whole answers must be the same as streams.
    A model that is expected to reason has ``MANY_WORDS``.
    """

    def __init__(
        self,
        notation: Notation = NO_NOTATION,
        *,
        tools: ToolUse | None = None,
        is_thinking: bool = False,
        is_expected_to_think: bool = False,
    ):
        """Parse the output of one choice of a model that writes ``notation``.

        ``tools`` are the offered tools; None: a call is content. ``is_thinking``: the prompt
        ends within the reasoning. ``is_expected_to_think``: the model opens it itself.
        """
        few = MANY_WORDS if is_expected_to_think else FEW_WORDS
        self._source = TextSource()
        may_think = notation.thinking is not None and not notation.is_harmony
        self._output = OutputWriter(
            is_after_marker=is_thinking,
            num_undecided=few if may_think and not is_thinking else 0,
        )
        self._calls = None if tools is None else CallList(tools, self._output)
        self._section: Section = "reasoning" if is_thinking else "content"
        self._literals = _literals_of(notation, tools)
        self._harmony: HarmonyReader | None = None
        if notation.is_harmony:
            self._harmony = HarmonyReader(
                self._source, self._output, self._calls, is_thinking=is_thinking
            )
            self._reading = self._harmony.read()
        else:
            self._set_markers(notation, tools)
            self._reading = self._read()

    def _set_markers(self, notation: Notation, tools: ToolUse | None) -> None:
        self._reader: CallReader | None = None
        self._openers: frozenset[str] = frozenset()
        closers: tuple[str, ...] = ()
        self._can_be_bare = False
        if tools is not None and self._calls is not None:
            syntax = CallSyntax.of(tools.calls)
            self._openers = frozenset(syntax.openers)
            closers = tuple(closer for closer in syntax.closers if len(closer) > 1)
            self._reader = CallReader(self._source, syntax, self._calls)
            self._can_be_bare = syntax.is_bare or bool(closers)
        thinking, content = notation.thinking, notation.content
        self._think_start = thinking.start if thinking else ""
        self._think_end = thinking.end if thinking else ""
        self._content_start = content.start if content else ""
        silent = {*notation.silent, *((content.start, content.end) if content else ())}
        # A silent text that begins with the end of the reasoning: the rest of it.
        silent |= {s.removeprefix(self._think_end) for s in silent if s != self._think_end}
        always = {*silent, *self._openers, self._think_start, self._think_end}
        self._markers = MarkerSet(always)
        self._markers_in_call = MarkerSet({*always, *closers})

    @property
    def is_reasoning(self) -> bool:
        """True if the next token belongs to the reasoning."""
        section = self._section if self._harmony is None else self._harmony.section
        return section == "reasoning"

    @property
    def num_calls(self) -> int:
        return 0 if self._calls is None else self._calls.num_calls

    @property
    def is_finished(self) -> bool:
        """True if the remaining text is not wanted."""
        return self._calls is not None and self._calls.is_finished

    def wants(self, special: str) -> bool:
        """True if ``special``, the text of a special token, has a meaning in the notation."""
        return any(special in literal for literal in self._literals)

    def feed(
        self,
        text: str,
        *,
        is_special: bool = False,
        is_last: bool = False,
        is_cut: bool = False,
    ) -> OutputDelta:
        """Read the next part of the text.

        ``is_special``: it is the text of a special token, which can be a marker or part of
        arguments, but no content. ``is_cut``: a limit has ended the text, so that the start of
        a call at its end is left out. Returns the output that is certain now; with
        ``is_last``, all the output.
        """
        if not self._literals:
            return OutputDelta(text)  # the usual case: each token of each stream comes here
        if not self.is_finished:
            self._source.feed(text, is_special=is_special, is_last=is_last, is_cut=is_cut)
            next(self._reading, None)
        return self._output.take()

    # --- sections -------------------------------------------------------------------

    def _read(self) -> Reading[None]:
        while not self.is_finished:
            if self._reader is not None and self._section == "content":
                yield from self._read_bare_call(self._reader)
                if self.is_finished:
                    break
            marker = yield from self._read_text()
            if not marker:
                break
            if marker in self._openers and self._reader is not None:
                if self._section == "content":
                    yield from self._read_call(self._reader, marker)
                else:
                    yield from self._read_call_in_thought(self._reader, marker)
            else:
                self._source.take(len(marker))
                self._end_section(marker)
        self._output.end(self._section)

    def _end_section(self, marker: str) -> None:
        output = self._output
        if marker == self._think_end and self._section == "reasoning":
            output.skip_marker()
            self._section = "content"
        elif marker == self._think_end and output.is_undecided:
            output.decide("reasoning")
            output.skip_marker()
        elif marker == self._think_end and output.has_content:
            pass  # It ends nothing; the white space around it belongs to the content.
        elif marker == self._think_start:
            output.decide("content")
            output.skip_marker("\n\n")
            self._section = "reasoning"
        else:
            output.skip_marker()
            if marker == self._content_start:
                output.decide("content")
                self._section = "content"

    def _read_text(self) -> Reading[str]:
        """Read the text up to the next marker, which is returned; "" at the end."""
        source = self._source
        is_in_call = self._reader is not None and self._reader.is_open
        while True:
            markers = self._markers_in_call if is_in_call else self._markers
            length, marker = markers.find(source)
            if source.is_last and source.is_cut and not marker:
                length -= self._markers_in_call.num_partial(source)
            self._output.write(self._section, source.take_visible(length))
            if marker or not (yield from source.more()):
                return marker

    # --- calls ----------------------------------------------------------------------

    def _read_call(self, reader: CallReader, opener: str) -> Reading[None]:
        offset = self._source.mark()
        try:
            calls = yield from reader.read(may_be_live=True)
        except Misread:
            self._refuse(reader, offset, opener)
        else:
            yield from self._tell(reader, calls)
        self._source.unmark()

    def _read_bare_call(self, reader: CallReader) -> Reading[None]:
        """Read a call without an announcement at the beginning of the content."""
        source = self._source
        if not self._can_be_bare or not self._output.is_at_start:
            return
        offset = source.mark()
        yield from source.skip_space()
        if (yield from source.peek()) == "{":
            try:
                calls = yield from reader.read_bare(may_be_live=True)
            except Misread:
                self._refuse(reader, offset, "{")
            else:
                yield from self._tell(reader, calls)
        else:
            source.go_back(offset)
        source.unmark()

    def _tell(self, reader: CallReader, calls: list[ReadCall] | None) -> Reading[None]:
        """Tell ``calls`` and those that follow in the same block."""
        assert self._calls is not None
        while calls is not None:
            for call in calls:
                self._calls.add(call)
            self._output.skip_marker("\n")
            if self.is_finished:
                return
            yield from reader.read_end()
            calls = yield from reader.read_next(may_be_live=True)

    def _refuse(self, reader: CallReader, offset: int, opener: str) -> None:
        """The text since ``offset`` is no call: ``opener``, or all of it, is content."""
        source = self._source
        reader.is_closed = True
        if source.is_cut and source.ran_short:
            source.take(len(source.text))
        elif source.go_back(offset):
            length = source.text.index(opener, source.at) + len(opener) - source.at
            self._output.write(self._section, source.take_visible(length))
        else:
            self._output.write(self._section, source.visible_since(offset))

    def _read_call_in_thought(self, reader: CallReader, opener: str) -> Reading[None]:
        """Read a call that counts only if the text ends with it."""
        source = self._source
        offset = source.mark()
        calls: list[ReadCall] = []
        try:
            while opener:
                calls += yield from reader.read(may_be_live=False)
                yield from reader.read_end()
                opener = yield from source.next_of(self._openers)
        except Misread:
            self._refuse(reader, offset, opener)
        else:
            if (yield from source.peek()) or source.is_cut:
                self._output.write("reasoning", source.visible_since(offset))
            elif self._calls is not None:
                for call in calls:
                    self._calls.add(call)
                self._output.skip_marker()
        source.unmark()


def _literals_of(notation: Notation, tools: ToolUse | None) -> list[str]:
    """The texts of the notation that the parser has to see."""
    if notation.is_harmony:
        return list(HARMONY_TOKENS)
    literals = list(notation.silent)
    for markers in (notation.thinking, notation.content):
        literals += [] if markers is None else [markers.start, markers.end]
    if tools is not None:
        calls = tools.calls
        literals += COMMON_TAGS
        literals += [calls.start, calls.separator, calls.end]
        literals += [part for part in calls.call if isinstance(part, str)]
        if (style := calls.arguments) is not None:
            literals += [style.before_key, style.before_value, style.after_value]
            literals += [style.separator, style.before_other_value or ""]
            literals += [GEMMA_QUOTE] if style.style is ValueStyle.GEMMA else []
    return literals
