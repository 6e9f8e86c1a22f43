"""The grammar of an answer, which may reason, call tools, and have a given form."""

import functools
import json
import re
from dataclasses import dataclass

from mlxnode.server.constraints.calls import CallRules, opening_of, trigger_of
from mlxnode.server.constraints.constraint import Constraint, check_grammar
from mlxnode.server.constraints.document import too_large
from mlxnode.server.constraints.harmony_grammar import harmony_rules
from mlxnode.server.constraints.lark import ANY, LarkGrammar, one_of, sequence
from mlxnode.server.constraints.markers import NO_MARKERS, MarkerTokens, quoted
from mlxnode.server.constraints.parameters import check_parameters
from mlxnode.server.constraints.trial import in_thread
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.notation import NO_NOTATION, Markers, Notation
from mlxnode.server.notation.tool_use import ToolUse

MAX_TOOLS_BYTES = 131_072  # of the schemas of all functions of a request

_GAP = "/[ \\n]{1,4}/"  # between the reasoning and what follows


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How the model writes an answer.

    ``tokens`` are its markers. ``is_reasoning``: the grammar starts after the end of the
    reasoning. ``may_think``: the answer may start with reasoning.
    """

    notation: Notation = NO_NOTATION
    tokens: MarkerTokens = NO_MARKERS
    is_reasoning: bool = False
    may_think: bool = False


async def answer_grammar(
    constraint: Constraint | None,
    tools: ToolUse | None,
    writing: Writing | None = None,
    *,
    closed: bool = True,
) -> str | None:
    """The grammar of an answer that may call ``tools``; None if any text is allowed.

    ``closed``: see ``prepared``.

    Raises:
        InvalidRequest: a grammar cannot be compiled or followed.
    """
    writing = writing or Writing()
    form = None if constraint is None else await constraint.checked_grammar(closed=closed)
    if tools is not None and (tools.is_enforced or form is not None):
        return await _checked_tool_grammar(tools, form, writing, closed)
    if constraint is None or form is None:
        return None
    grammar = _Answer(writing).grammar(None, form)
    if grammar != form:
        await check_grammar(grammar, constraint.param)
    return grammar


async def _checked_tool_grammar(
    tools: ToolUse, form: str | None, writing: Writing, closed: bool
) -> str:
    grammar = await in_thread(
        functools.partial(tool_grammar, tools, form, writing, closed=closed)
    )
    try:
        await check_grammar(grammar, "tools")
    except InvalidRequest:
        # The parameters of one function may be the reason: the error is to name them.
        await check_parameters(tools.functions, closed=closed)
        raise
    return grammar


def tool_grammar(
    tools: ToolUse,
    answer: str | None = None,
    writing: Writing | None = None,
    *,
    closed: bool = True,
) -> str:
    """The grammar of an answer that calls ``tools``, or is free not to call them.

    The text beside the calls follows the grammar ``answer``; without it, any text is allowed.
    Check the result with ``check_grammar(grammar, "tools")``.

    Raises:
        InvalidRequest: the parameters of a function are no object, too large or too deep, or
            calls in this notation cannot be kept under a strict schema.
    """
    return _Answer(writing or Writing(), closed).grammar(tools, answer)


class _Answer:
    """Writes the grammar of one request."""

    def __init__(self, writing: Writing, closed: bool = True):
        self._writing = writing
        self._notation = writing.notation
        self._rules = LarkGrammar(writing.tokens)
        self._closed = closed

    def grammar(self, tools: ToolUse | None, form: str | None) -> str:
        """The grammar of calls of ``tools``, or of texts of the grammar ``form``."""
        if self._notation.is_harmony:
            start = harmony_rules(self._rules, tools, form, closed=self._closed)
        elif tools is None:
            assert form is not None
            before, text = self._before_sections(), self._in_form(form)
            if not before and self._notation.content is None:
                return form
            start = sequence([before, text])
        elif tools.must_call:
            start = sequence([self._before_sections(), self._calls(tools)])
        elif form is not None:
            choices = [self._calls(tools), self._in_form(form)]
            start = sequence([self._before_sections(), one_of(choices)])
        else:
            start = self._free(tools)
        self._rules.rule("start", start)
        grammar = self._rules.dump()
        if len(grammar) > MAX_TOOLS_BYTES and tools is not None:
            raise too_large("tools", len(grammar), MAX_TOOLS_BYTES)
        return grammar

    # --- what comes before the answer -----------------------------------------------

    def _before_sections(self) -> str:
        """Reasoning, if the answer may start with it, and what is silent."""
        texts = [self._rules.literal(text) for text in self._notation.silent]
        silent = f"({one_of(texts)})?" if texts else ""
        if self._writing.is_reasoning:
            return sequence([f"{_GAP}?", silent])
        if self._writing.may_think and self._notation.thinking is not None:
            return f"({sequence([self._section(self._notation.thinking), silent])})?"
        return ""

    def _section(self, markers: Markers) -> str:
        start = self._rules.literal(markers.start)
        return sequence(
            [start, self._rules.text_until("section", ANY, markers.end), f"{_GAP}?"]
        )

    def _in_form(self, form: str) -> str:
        """The content in its form, between the markers of content if the model has them."""
        [part] = json.loads(form)["grammars"]
        text = self._rules.part(part)
        if (content := self._notation.content) is None:
            return text
        start, end = map(self._rules.literal, (content.start, content.end))
        return one_of([text, sequence([start, text, f"({end})?"])])

    # --- calls ----------------------------------------------------------------------

    def _calls(self, tools: ToolUse) -> str:
        """The calls of an answer that has to call, or consists of calls."""
        opening = opening_of(tools.calls)
        # The white space before the first call separates it from text, which is not there.
        space = opening[: len(opening) - len(opening.lstrip())]
        calls = CallRules(self._rules, tools, closed=self._closed).all(space)
        return sequence([f"({quoted(space)})?" if space else "", calls])

    def _free(self, tools: ToolUse) -> str:
        """Any text, with calls that are valid: the start of a call obliges to complete it."""
        opening = opening_of(tools.calls)
        if tools.calls.is_bare or not opening.strip():
            return self._bare(tools, opening)
        _, marker, _ = self._writing.tokens.split(opening)
        trigger = trigger_of(opening, marker)
        calls = CallRules(self._rules, tools, closed=self._closed).unit(trigger)
        text = self._text()
        # The text takes all up to the first start of a call.
        lead = self._rules.text_until("before_call", ANY, trigger.lstrip())
        call = self._rules.rule("call_in_text", sequence([lead, calls]))
        other = self._other_markers(marker)
        between = sequence([f"{text}?", other]) if other else ""
        if tools.is_parallel and tools.calls.has_several:
            return sequence([f"({one_of(filter(None, [call, between]))})*", f"{text}?"])
        return sequence([f"({between})*" if between else "", one_of([call, f"{text}?"])])

    def _bare(self, tools: ToolUse, opening: str) -> str:
        """Calls, or a text that does not start as one."""
        # White space may differ, where the model writes JSON.
        form = r"\s*".join(map(re.escape, re.findall(r"\w+|[^\w\s]", opening)))
        form = form.replace("/", r"\/")
        start = self._rules.rule("OTHER_TEXT", rf"/(?s:.+)/ & ~/\s*{form}{ANY}/")
        other = self._other_markers("")
        rest = f"({other} {self._text()}?)*" if other else ""
        silent = [self._rules.literal(text) for text in self._notation.silent]
        before = f"({one_of(silent)})?" if silent else ""
        other_text = sequence([f"{start}?", rest])
        return sequence([before, one_of([self._calls(tools), other_text])])

    def _text(self) -> str:
        return self._rules.rule("TEXT", "/(?s:.+)/")

    def _other_markers(self, start: str) -> str:
        """A marker in a text, other than ``start``, which starts a call; "" without any."""
        notation = self._notation
        texts = list(notation.silent)
        for pair in (notation.thinking, notation.content):
            texts += [] if pair is None else [pair.start, pair.end]
        return self._writing.tokens.any_of(texts, without=start)
