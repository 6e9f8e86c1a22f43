"""Proves a notation: what is written in it is what the template writes, and is read back."""

import json
import logging
import re
from typing import Any

from mlxnode.server.deriving.probe import IDS, KEYS, NAMES, Call, Probe
from mlxnode.server.deriving.read_calls import FoundCalls
from mlxnode.server.notation.notation import CallNotation, Notation
from mlxnode.server.notation.tool_use import Function, ToolUse
from mlxnode.server.notation.write import write_calls
from mlxnode.server.parsing.output_parser import OutputParser

logger = logging.getLogger("mlxnode.server")

_FIRST, _SECOND, _THIRD = KEYS[:3]
_ONE: Call = (NAMES[0], {_FIRST: "an old town", _SECOND: "x"}, IDS[0])
_NONE: Call = (NAMES[1], {}, IDS[1])
# Numbers and lists look the same in JSON and in Python, which some templates mix.
_NESTED: Call = (NAMES[0], {_FIRST: "a: b", _SECOND: 3, _THIRD: [[1, 2], []]}, IDS[0])
_LONE: Call = (NAMES[0], {}, IDS[0])

_REASONING = "I think."
# What the notation, not the template, has to keep apart.
_FULL: tuple[str, dict[str, Any]] = (
    "first_tool",
    {
        "text": 'It\'s a "text", {1: [2]}\nof two lines \u00e9',
        "count": -3,
        "ratio": 0.5,
        "is_on": True,
        "items": [{"a": "b, c", "d": None}, [], 1],
        "object": {"e": {"f": False}},
    },
)
_EMPTY: tuple[str, dict[str, Any]] = ("second-tool", {})
_TYPES = {
    "text": "string",
    "count": "integer",
    "ratio": "number",
    "is_on": "boolean",
    "items": "array",
    "object": "object",
}
_FUNCTIONS = [
    Function(
        name=_FULL[0],
        parameters={
            "type": "object",
            "properties": {name: {"type": type} for name, type in _TYPES.items()},
        },
        param="tools[0].function.parameters",
    ),
    Function(name=_EMPTY[0], param="tools[1].function.parameters"),
]


class Unproven(Exception):
    """The notation is not what the template writes, or is not read back."""


def prove_history(probe: Probe, found: FoundCalls) -> None:
    """Compare what the template writes for several answers with what ``found`` writes.

    Raises:
        Unproven: they differ.
    """
    answers = [[_ONE], [_NESTED], [_LONE]]
    if found.notation.has_several:
        answers += [[_ONE, _NONE], [_NESTED, _NONE]]
    for calls in answers:
        rendered = probe.calls(calls, found.form)
        written = _write(found.notation, calls)
        if rendered is None or _without_space(written) not in _without_space(rendered):
            logger.debug("written as %r, rendered as %r", written, rendered)
            raise Unproven("the template does not keep to the notation read off it")


def _write(notation: CallNotation, calls: list[Call]) -> str:
    called: list[tuple[str, dict[str, Any]]] = [call[:2] for call in calls]
    return write_calls(notation, called, [id for *_, id in calls])


def _without_space(text: str) -> str:
    """Templates lay out JSON, and the white space around a call, in their own ways."""
    return re.sub(r"\s+", "", text)


def prove(notation: Notation) -> None:
    """Read reasoning and calls back that are written in ``notation``.

    Raises:
        Unproven: the parser finds something else.
    """
    calls = notation.calls
    if calls is None:
        return
    tools = ToolUse(functions=_FUNCTIONS, calls=calls, must_call=False)
    texts = [[_FULL], [_EMPTY]] + ([[_FULL, _EMPTY]] if calls.has_several else [])
    for called in texts:
        text = _thought(notation) + write_calls(calls, called)
        read = _read(notation, tools, text)
        reasoning = "" if notation.thinking is None else _REASONING
        if read != (called, reasoning, ""):
            logger.debug("%r is read back as %r", text, read)
            raise Unproven("calls written in the notation are not read back")


def _read(notation: Notation, tools: ToolUse, text: str) -> tuple[list[Any], str, str]:
    """The calls, the reasoning and the content of ``text``."""
    try:
        output = OutputParser(notation, tools=tools).feed(text, is_last=True)
    except Exception as error:  # there may be notations that the parser was not made for
        raise Unproven(f"calls written in the notation cannot be read: {error!r}") from error
    calls = [(call.name, json.loads(call.arguments)) for call in output.calls]
    return calls, output.reasoning, output.content


def _thought(notation: Notation) -> str:
    """A thought, and what stands between it and calls."""
    if notation.thinking is None:
        return ""
    between = notation.silent[0] if notation.silent else ""
    return notation.thinking.start + _REASONING + notation.thinking.end + between
