"""Notations in the style of families, written by hand, and outputs read with them."""

import json
import random
from typing import Any

from mlxnode.server.notation.notation import (
    PLAIN_CALLS,
    CallNotation,
    Field,
    Markers,
    Notation,
    TaggedArguments,
    ValueStyle,
)
from mlxnode.server.notation.tool_use import Function, ToolUse
from mlxnode.server.parsing.output_parser import OutputDelta, OutputParser

NAME, ARGUMENTS = Field.NAME, Field.ARGUMENTS
THINK = Markers("<think>", "</think>")


def _tagged(
    before_key: str, before_value: str, after_value: str, **more: Any
) -> TaggedArguments:
    more = {"separator": "\n", "style": ValueStyle.TEXT, **more}
    return TaggedArguments(
        before_key=before_key, before_value=before_value, after_value=after_value, **more
    )


HERMES = Notation(thinking=THINK, calls=PLAIN_CALLS)
XML = Notation(
    thinking=THINK,
    calls=CallNotation(
        ("<tool_call>\n<function=", NAME, ">\n", ARGUMENTS, "\n</function>\n</tool_call>"),
        separator="\n",
        arguments=_tagged("<parameter=", ">\n", "\n</parameter>"),
    ),
)
PAIRS = Notation(
    thinking=THINK,
    calls=CallNotation(
        ("<tool_call>", NAME, "\n", ARGUMENTS, "\n</tool_call>"),
        separator="\n",
        arguments=_tagged("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>"),
    ),
)
INVOKE = Notation(
    thinking=THINK,
    calls=CallNotation(
        ('<do:invoke name="', NAME, '">\n', ARGUMENTS, "\n</do:invoke>"),
        start="<do:calls>\n",
        separator="\n",
        end="\n</do:calls>",
        arguments=_tagged(
            '<do:parameter name="',
            '" string="true">',
            "</do:parameter>",
            before_other_value='" string="false">',
        ),
    ),
)
NAMED = Notation(calls=CallNotation(("[TOOL_CALLS]", NAME, "[ARGS]", ARGUMENTS)))
WITH_ID = Notation(
    calls=CallNotation(
        ("[TOOL_CALLS]", NAME, "[CALL_ID]", Field.ID, "[ARGS]", ARGUMENTS), short_ids=True
    )
)
LISTED = Notation(
    calls=CallNotation(
        ('{"name": "', NAME, '", "arguments": ', ARGUMENTS, "}"),
        start="[TOOL_CALLS][",
        separator=", ",
        end="]",
        short_ids=True,
    )
)
ACTION = Notation(
    thinking=Markers("<|START_THINKING|>", "<|END_THINKING|>"),
    content=Markers("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    calls=CallNotation(
        (
            '{"tool_call_id": "',
            Field.INDEX,
            '", "tool_name": "',
            NAME,
            '", "parameters": ',
            ARGUMENTS,
            "}",
        ),
        start="<|START_ACTION|>[\n    ",
        separator=",\n    ",
        end="\n]<|END_ACTION|>",
    ),
)
KEYED = Notation(
    calls=CallNotation(
        ('{"', NAME, '": ', ARGUMENTS, "}"),
        start="<|tools_prefix|>[",
        separator=", ",
        end="]<|tools_suffix|>",
    )
)
NUMBERED = Notation(
    calls=CallNotation(
        (
            "<|call_begin|>functions.",
            NAME,
            ":",
            Field.INDEX,
            "<|argument_begin|>",
            ARGUMENTS,
            "<|call_end|>",
        ),
        start="<|calls_begin|>",
        end="<|calls_end|>",
    )
)
PYTHON = Notation(
    calls=CallNotation(
        (NAME, "(", ARGUMENTS, ")"),
        start="<|tool_call_start|>[",
        separator=", ",
        end="]<|tool_call_end|>",
        arguments=_tagged("", "=", "", separator=", ", style=ValueStyle.PYTHON),
    )
)
GEMMA = Notation(
    thinking=Markers("<|channel>thought", "<channel|>"),
    calls=CallNotation(
        ("<|tool_call>call:", NAME, "{", ARGUMENTS, "}<tool_call|>"),
        arguments=_tagged("", ":", "", separator=",", style=ValueStyle.GEMMA),
    ),
)
BARE = Notation(
    silent=("<|python_tag|>",),
    calls=CallNotation(('{"name": "', NAME, '", "parameters": ', ARGUMENTS, "}"), is_bare=True),
)
TURNS = Notation(
    thinking=Markers("<|think|>", "<|end|>"),
    silent=("<|begin|>assistant",),
    calls=CallNotation(
        (
            "<|call:begin|>",
            Field.ID,
            "<|call:name|>",
            NAME,
            "<|call:args|>",
            ARGUMENTS,
            "<|call:end|>",
        ),
        start="<|tool_calls|>",
    ),
)
HARMONY = Notation(
    thinking=Markers("<|channel|>analysis<|message|>", "<|end|>"),
    calls=CallNotation(
        (
            "<|channel|>commentary to=functions.",
            NAME,
            " <|constrain|>json<|message|>",
            ARGUMENTS,
        )
    ),
    is_harmony=True,
)

_PROPERTIES: dict[str, Any] = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "deep": {"type": "object"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "is_warm": {"type": "boolean"},
    "degrees": {"type": "number"},
    "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
}
FUNCTIONS = [
    Function(
        name=name,
        parameters={"type": "object", "properties": properties, "required": required},
        param="tools",
    )
    for name, properties, required in (
        ("get_weather", _PROPERTIES, ["city"]),
        ("get_weather_now", _PROPERTIES, ["city"]),
        ("now", {}, []),
    )
]
Called = tuple[str, dict[str, Any]]
ROME: Called = ("get_weather", {"city": "Rome", "days": 2})
NOW: Called = ("now", {})


def use_of(notation: Notation, **options: Any) -> ToolUse:
    """The use of ``FUNCTIONS``; nothing is enforced unless ``options`` say so."""
    options = {"functions": FUNCTIONS, "must_call": False, **options}
    return ToolUse(calls=notation.calls or PLAIN_CALLS, **options)


def read(parser: OutputParser, parts: list[str], *, is_cut: bool = False) -> OutputDelta:
    """The output of ``parser`` for a text that arrives in ``parts``."""
    output = OutputDelta()
    for part in parts:
        output.add(parser.feed(part))
    output.add(parser.feed("", is_last=True, is_cut=is_cut))
    assert [call.index for call in output.calls] == list(range(len(output.calls)))
    return output


def parts_of(text: str) -> list[list[str]]:
    """``text`` whole, cut in two at each place, in characters, and in random parts."""
    ways = [[text], list(text)]
    ways += [[text[:at], text[at:]] for at in range(1, len(text))]
    rng = random.Random(0)
    for _ in range(20):
        cuts = sorted(rng.choices(range(len(text) + 1), k=6))
        ways.append([text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)])
    return ways


def read_all_ways(
    notation: Notation,
    text: str,
    *,
    is_thinking: bool = False,
    is_expected_to_think: bool = False,
    is_cut: bool = False,
    **options: Any,
) -> tuple[str, str, list[Called]]:
    """Content, reasoning and calls of ``text``, which are the same wherever it is cut."""
    results: list[tuple[str, str, list[tuple[str | None, str]]]] = []
    for parts in parts_of(text):
        parser = OutputParser(
            notation,
            tools=use_of(notation, **options),
            is_thinking=is_thinking,
            is_expected_to_think=is_expected_to_think,
        )
        output = read(parser, parts, is_cut=is_cut)
        calls = [(call.name, call.arguments) for call in output.calls]
        results.append((output.content, output.reasoning, calls))
        assert results[-1] == results[0], parts
    content, reasoning, calls = results[0]
    return content, reasoning, [(name or "", json.loads(text)) for name, text in calls]
