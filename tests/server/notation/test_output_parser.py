"""A model's output, separated: the result is the same wherever the text is cut."""

import json
import random

import pytest

from mlxnode.server.notation.output_parser import OutputDelta, OutputParser
from mlxnode.server.notation.tool_syntax import PLAIN_SYNTAX, ToolSyntax
from mlxnode.server.prompt.tokenizers import import_tokenizer_utils

THINKING = ("<think>", "</think>")
PARAMETERS = {"type": "object", "properties": {"days": {"type": "array"}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": PARAMETERS}}
    for name in ("now", "get_weather")
]
WEATHER = '{"name": "get_weather", "arguments": {"city": "B}r\\"n", "days": [1, {"a": 2}]}}'


def syntax_of(name: str) -> ToolSyntax:
    """The syntax of one of mlx-lm's parsers."""
    import_tokenizer_utils()
    module = __import__(f"mlx_lm.tool_parsers.{name}", fromlist=["parse_tool_call"])
    return ToolSyntax(module.tool_call_start, module.tool_call_end, module.parse_tool_call)


def read(text: str, cuts: list[int], **options) -> OutputDelta:
    parser = OutputParser(**options)
    output = OutputDelta()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        output.add(parser.feed(text[start:end]))
    output.add(parser.feed("", is_last=True))
    for call in output.calls:
        assert call.id.startswith("call_")
        call.id = None
    return output


def read_all_ways(text: str, **options) -> OutputDelta:
    """The parsed ``text``; it must be the same for every cut in two and for many others."""
    whole = read(text, [], **options)
    rng = random.Random(0)
    ways = [[at] for at in range(len(text) + 1)]
    ways += [sorted(rng.choices(range(len(text) + 1), k=8)) for _ in range(50)]
    for cuts in [*ways, list(range(len(text)))]:
        assert read(text, cuts, **options) == whole, cuts
    return whole


def calls_of(output: OutputDelta) -> list[tuple[str, object]]:
    assert [call.index for call in output.calls] == list(range(len(output.calls)))
    return [(call.name, json.loads(call.arguments)) for call in output.calls]


@pytest.mark.parametrize(
    ("text", "is_thinking", "content", "reasoning"),
    [
        ("<think>\na < b\n</think>\n\nYes.", False, "Yes.", "a < b"),
        ("a < b\n</think>\n\nYes.", True, "Yes.", "a < b"),
        ("no end of it", True, "", "no end of it"),
        ("<think></think>Yes. ", False, "Yes. ", ""),
        (" plain <thin", False, " plain <thin", ""),
        ("x</think>y", False, "x</think>y", ""),
        ("one<think>two</think>three", False, "onethree", "two"),
        ("<tool_call>{}</tool_call>", False, "<tool_call>{}</tool_call>", ""),
    ],
)
def test_reasoning_is_told_from_the_answer(text, is_thinking, content, reasoning):
    output = read_all_ways(text, thinking=THINKING, is_thinking=is_thinking)
    assert (output.content, output.reasoning, output.calls) == (content, reasoning, [])


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (PLAIN_SYNTAX, f"I look.\n<tool_call>\n{WEATHER}\n</tool_call>\n"),
        (PLAIN_SYNTAX, f"I look.<tool_call>{WEATHER}"),
        (
            PLAIN_SYNTAX,
            'I look. <tool_call>{"arguments": {"city": "B}r\\"n", "days": [1, {"a": 2}]}, '
            '"name": "get_weather"}</tool_call>',
        ),
        ("mistral", f"I look.[TOOL_CALLS][{WEATHER}]"),
        (
            "mistral",
            'I look.[TOOL_CALLS]get_weather[ARGS]{"city": "B}r\\"n", "days": [1, {"a": 2}]}',
        ),
        (
            "pythonic",
            "I look.<|tool_call_start|>[get_weather(city='B}r\"n', days=[1, {'a': 2}])]"
            "<|tool_call_end|>",
        ),
        (
            "qwen3_coder",
            'I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nB}r"n\n'
            '</parameter>\n<parameter=days>\n[1, {"a": 2}]\n</parameter>\n</function>\n'
            "</tool_call>",
        ),
        (
            "kimi_k2",
            "I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
            '<|tool_call_argument_begin|>{"city": "B}r\\"n", "days": [1, {"a": 2}]}'
            "<|tool_call_end|><|tool_calls_section_end|>",
        ),
    ],
)
def test_calls_are_read_in_the_syntax_of_the_model(syntax, text):
    syntax = syntax_of(syntax) if isinstance(syntax, str) else syntax
    output = read_all_ways(text, syntax=syntax, tools=TOOLS)
    assert output.content == "I look."
    assert calls_of(output) == [
        ("get_weather", {"city": 'B}r"n', "days": [1, {"a": 2}]}),
    ]


def test_several_calls_and_reasoning_before_them():
    now = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    text = f"<think>Which?</think>\n\n{now}\n<tool_call>{WEATHER}</tool_call> Done."
    output = read_all_ways(text, thinking=THINKING, syntax=PLAIN_SYNTAX, tools=TOOLS)
    assert (output.reasoning, output.content) == ("Which?", "Done.")
    assert [name for name, _ in calls_of(output)] == ["now", "get_weather"]


def test_arguments_come_as_they_are_written():
    parser = OutputParser(syntax=PLAIN_SYNTAX, tools=TOOLS)
    parser.feed('<tool_call>{"name": "get_weather", "arguments": ')
    pieces = [parser.feed(piece).calls[0] for piece in ('{"ci', 'ty": ', '"Basel"}')]
    assert pieces[0].name == "get_weather" and pieces[1].name is None
    assert [piece.arguments for piece in pieces] == ['{"ci', 'ty": ', '"Basel"}']


def test_arguments_that_are_cut_off_are_told_as_far_as_they_go():
    text = '<tool_call>{"name": "get_weather", "arguments": {"city": "Ba'
    [call] = read_all_ways(text, syntax=PLAIN_SYNTAX, tools=TOOLS).calls
    assert call.arguments == '{"city": "Ba'


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "now"}</tool_call> and on',
        '<tool_call>{"name": "now", "arguments": 7}</tool_call>',
        "To call, write <tool_call> and </tool_call>.",
        "\n <tool_call>[]",
        "<tool_call",
        '{"name": "now", "arguments": {}}',
    ],
)
def test_what_only_looks_like_a_call_is_text(text):
    output = read_all_ways(text, syntax=PLAIN_SYNTAX, tools=TOOLS)
    assert (output.content, output.calls) == (text, [])


@pytest.mark.parametrize("syntax", [PLAIN_SYNTAX, "pythonic"])
def test_without_parallel_calls_the_first_is_the_last(syntax):
    call = f"<tool_call>{WEATHER}</tool_call>"
    if syntax == "pythonic":
        syntax = syntax_of(syntax)
        call = "<|tool_call_start|>[get_weather(), now()]<|tool_call_end|>"
    parser = OutputParser(syntax=syntax, tools=TOOLS, is_parallel=False)
    output = parser.feed(f"{call}\n{call} more")
    assert parser.is_finished and not output.content
    assert [piece.name for piece in output.calls] == ["get_weather"]


def test_short_ids_where_a_template_takes_no_others():
    syntax = ToolSyntax("<tool_call>", "", lambda *_: None, has_short_ids=True)
    [call] = OutputParser(syntax=syntax, tools=TOOLS).feed(f"<tool_call>{WEATHER}").calls
    assert len(call.id) == 9 and call.id.isalnum()


def test_special_tokens_are_shown_where_they_mean_something():
    parser = OutputParser(syntax=syntax_of("kimi_k2"), tools=TOOLS)
    assert parser.wants("<|tool_calls_section_begin|>") and not parser.wants("<|im_end|>")
    parser.feed("<|tool_calls_section_begin|>")
    assert parser.wants("<|tool_call_begin|>")
