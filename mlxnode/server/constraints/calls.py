"""The grammar of calls in the notation of a model."""

import re

from mlxnode.server.constraints.constraint import prepared_part
from mlxnode.server.constraints.lark import LarkGrammar, sequence
from mlxnode.server.constraints.markers import Plain, quoted
from mlxnode.server.constraints.parameters import prepared_parameters
from mlxnode.server.constraints.properties import Parameters
from mlxnode.server.constraints.tagged import TaggedCalls
from mlxnode.server.notation.notation import CallNotation, Field
from mlxnode.server.notation.tool_use import Function, ToolUse

_ID = "/[A-Za-z0-9]{9}/"  # the form that the most particular template accepts
_INDEX = "/0|[1-9][0-9]{0,2}/"
_JSON_PIECES = re.compile(r'"[^"]*"|\s+|[^"\s]')


class CallRules:
    """Writes the rules of calls of ``tools`` into a grammar."""

    def __init__(self, grammar: LarkGrammar, tools: ToolUse, *, closed: bool = True):
        self._grammar = grammar
        self._closed = closed
        self._notation = tools.calls
        self._functions = tools.functions
        self._has_several = tools.is_parallel and tools.calls.has_several
        self._arguments: list[str] | None = None

    def all(self, skipped: str = "") -> str:
        """The calls of an answer; ``skipped`` is a start of their text that came before."""
        start, calls = self._notation.start, self._notation
        if len(skipped) <= len(start):
            first = later = self._one("call")
            start = start.removeprefix(skipped)
        else:
            first, start = self._one("first_call", skipped.removeprefix(start)), ""
            later = self._one("call") if self._has_several else ""
        literal = self._grammar.literal
        more = f"({sequence([literal(calls.separator), later])})*" if self._has_several else ""
        return sequence([literal(start), first, more, literal(calls.end)])

    def unit(self, skipped: str) -> str:
        """What stands for itself among other text: the calls between a start and an end, or
        one call of a notation without them. ``skipped`` as for ``all``."""
        if self._notation.start:
            return self.all(skipped)
        return sequence([self._one("call", skipped), self._grammar.literal(self._notation.end)])

    def _one(self, name: str, skipped: str = "") -> str:
        if self._arguments is None:
            self._arguments = [
                self._arguments_of(i, function) for i, function in enumerate(self._functions)
            ]
        calls = [
            self._call(function, arguments, skipped)
            for function, arguments in zip(self._functions, self._arguments, strict=True)
        ]
        return self._grammar.rule(name, " | ".join(calls))

    def _call(self, function: Function, arguments: str, skipped: str) -> str:
        pieces: list[str] = []
        texts: list[str] = []
        for i, part in enumerate(self._notation.call):
            if isinstance(part, str):
                texts.append(part.removeprefix(skipped) if i == 0 else part)
            elif part is Field.NAME:
                texts.append(Plain(function.name))
            else:
                other = {Field.ARGUMENTS: arguments, Field.ID: _ID, Field.INDEX: _INDEX}[part]
                pieces += [self._text(texts), other]
                texts = []
        return sequence([*pieces, self._text(texts)])

    def _text(self, texts: list[str]) -> str:
        if not self._notation.is_bare:
            return self._grammar.literal(*texts)
        # The lexer takes the longest terminal: a whole head would hide another JSON answer.
        return sequence(map(quoted, _JSON_PIECES.findall("".join(texts))))

    def _arguments_of(self, i: int, function: Function) -> str:
        schema = prepared_parameters(function, closed=self._closed)
        if self._notation.arguments is None:
            return self._grammar.part(prepared_part(schema))
        parameters = Parameters.of(function, schema)
        tagged = TaggedCalls(self._grammar, self._notation.arguments, parameters, f"f{i}_")
        return tagged.rules()


def opening_of(calls: CallNotation) -> str:
    """The text before the first name or argument of the first call."""
    first = calls.call[0]
    return calls.start + (first if isinstance(first, str) else "")


def trigger_of(opening: str, marker: str) -> str:
    """The start of ``opening`` that tells a call from other text.

    ``marker`` is the first marker in it, "" if there is none.
    """
    if marker:
        return opening[: opening.index(marker) + len(marker)]
    stripped = opening.strip()
    space = opening[: opening.index(stripped)]
    line = stripped.split("\n")[0].rstrip()
    closing = {"<": ">", "[": "]"}.get(line[0])
    if closing is not None and closing in line:
        line = line[: line.index(closing) + 1]
    return space + line
