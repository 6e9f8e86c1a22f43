"""Calls as models write them beside their notation: read where one meaning is possible."""

import pytest
from support.notations import (
    BARE,
    HARMONY,
    HERMES,
    NAMED,
    NOW,
    NUMBERED,
    PYTHON,
    ROME,
    XML,
    read_all_ways,
)

ARGUMENTS = '{"city": "Rome", "days": 2}'
OBJECT = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'
NOW_OBJECT = '{"name": "now"}'
FUNCTION = (
    "<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n"
    "<parameter=days>\n2\n</parameter>\n</function>"
)
NO_ARGUMENTS = "<function=now>\n</function>"


def tool_call(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        (f'{{"arguments": {ARGUMENTS}, "name": "get_weather"}}', [ROME]),
        (OBJECT.replace("arguments", "parameters"), [ROME]),
        (OBJECT.replace("arguments", "args"), [ROME]),
        (OBJECT.replace("arguments", "input"), [ROME]),
        (OBJECT.replace('"name"', '"tool_name"'), [ROME]),
        (OBJECT.replace('"name"', '"type": "function", "name"'), [ROME]),
        (f'{{"type": "function", "function": {OBJECT}}}', [ROME]),
        (f'{{"function": "get_weather", "arguments": {ARGUMENTS}}}', [ROME]),
        (f'{{"get_weather": {ARGUMENTS}}}', [ROME]),
        (OBJECT.replace("get_weather", "functions.get_weather"), [ROME]),
        (OBJECT.replace(ARGUMENTS, '"{\\"city\\": \\"Rome\\", \\"days\\": 2}"'), [ROME]),
        (f"```json\n{OBJECT}\n```", [ROME]),
        (f"```\n{OBJECT}\n```", [ROME]),
        (f"{OBJECT}\n{NOW_OBJECT}", [ROME, NOW]),
        (f"{OBJECT},\n{NOW_OBJECT}", [ROME, NOW]),
        (f"[{OBJECT}, {NOW_OBJECT}]", [ROME, NOW]),
        ('{"name": "now", "arguments": null}', [NOW]),
        ('{"name": "now", "arguments": ""}', [NOW]),
        ('{"name": "now", "arguments": "{}"}', [NOW]),
        (OBJECT.replace("2}", "2,}"), [ROME]),
        (OBJECT.replace('"', "'"), [ROME]),
        (OBJECT.replace('"name"', "name"), [ROME]),
        (OBJECT.replace("2", '"2"'), [ROME]),
        (OBJECT.replace("2", "2.0"), [ROME]),
        (
            OBJECT.replace("Rome", "Ro\nme\t"),
            [("get_weather", {"city": "Ro\nme\t", "days": 2})],
        ),
        (
            OBJECT.replace("Rome", "</tool_call>"),
            [("get_weather", {"city": "</tool_call>", "days": 2})],
        ),
    ],
)
def test_objects_are_read_in_many_forms(body, calls):
    assert read_all_ways(HERMES, tool_call(body)) == ("", "", calls)
    assert read_all_ways(HERMES, f"<tool_call>{body}</tool_call>") == ("", "", calls)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "7",
        OBJECT[:-1],  # a bracket is missing
        OBJECT.replace('Rome"', "Rome"),
        OBJECT.replace(",", ""),
        OBJECT.replace("2}", "2]"),
        OBJECT.replace("2", "two"),
        OBJECT.replace("2", '"two"'),
        OBJECT.replace("2", "NaN"),
        OBJECT.replace('"Rome"', '["Rome"]'),
        OBJECT.replace("get_weather", "get_news"),
        OBJECT.replace(ARGUMENTS, "7"),
        '{"name": "get_weather"}',  # it needs arguments
        '{"name": "now", "city": "Rome"}',  # where do these belong?
        f"[{OBJECT}, 7]",
    ],
)
def test_what_cannot_be_read_is_content_as_a_whole(body):
    text = tool_call(body)
    assert read_all_ways(HERMES, text) == (text, "", [])
    # The call after it is not lost.
    both = f"{text}\n{tool_call(OBJECT)}"
    assert read_all_ways(HERMES, both) == (text, "", [ROME])


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"<tool_call>\n{OBJECT}", "", [ROME]),
        (f"{OBJECT}\n</tool_call>", "", [ROME]),
        (f"<tool_call>\n{OBJECT}\nIt is warm.", "It is warm.", [ROME]),
        (f"<tool_call>\n{OBJECT}\n{tool_call(NOW_OBJECT)}", "", [ROME, NOW]),
        (f"Yes.\n{tool_call(OBJECT)}\n\nWait.", "Yes.\nWait.", [ROME]),
        (f"{tool_call(OBJECT)} x </tool_call>", "x </tool_call>", [ROME]),
        (OBJECT, OBJECT, []),
        ("To call, write <tool_call> and </tool_call>.", None, []),
        ("<tool_call", None, []),
    ],
)
def test_tags_may_be_missing(text, content, calls):
    content = text if content is None else content
    assert read_all_ways(HERMES, text) == (content, "", calls)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (FUNCTION, "", [ROME]),
        (f"{FUNCTION}\n</tool_call>", "", [ROME]),
        (tool_call(f"{FUNCTION}\n{NO_ARGUMENTS}"), "", [ROME, NOW]),
        (tool_call(FUNCTION.replace("</function>", NO_ARGUMENTS)), "", [ROME, NOW]),
        (tool_call(FUNCTION.replace("=get_weather>", ">get_weather</function>")), "", [ROME]),
        (tool_call("<function>now</function>"), "", [NOW]),
        (tool_call("<function=now>"), "", [NOW]),
        (tool_call(f"<function=get_weather>{ARGUMENTS}</function>"), "", [ROME]),
        (tool_call(OBJECT), "", [ROME]),
        (tool_call(FUNCTION.replace("Rome\n</parameter>", "Rome")), "", [ROME]),
        (tool_call(FUNCTION.replace("2\n</parameter>", "2")), "", [ROME]),
        (f"<tool_call>\n{FUNCTION}It is warm.", "It is warm.", [ROME]),
        (tool_call(FUNCTION.replace("2", "two")), None, []),
        (tool_call(FUNCTION.replace("days", "city")), None, []),
        ("Write <function=now> to call it.", None, []),
    ],
)
def test_tagged_calls_are_read_in_many_forms(text, content, calls):
    content = text if content is None else content
    assert read_all_ways(XML, text) == (content, "", calls)


@pytest.mark.parametrize(
    "city", ["a</parameter>b", "<parameter=x>\ny\n</parameter> z", " a\n\n", "</function>", "{"]
)
def test_a_value_ends_where_the_notation_goes_on(city):
    text = tool_call(FUNCTION.replace("Rome", city))
    called = [("get_weather", {"city": city, "days": 2})]
    assert read_all_ways(XML, text) == ("", "", called)


@pytest.mark.parametrize(
    ("notation", "text", "content", "calls"),
    [
        (NAMED, f"[TOOL_CALLS][{OBJECT}]", "", [ROME]),
        (NAMED, "[TOOL_CALLS]now", "", [NOW]),
        (NAMED, "[TOOL_CALLS]nowhere", "[TOOL_CALLS]nowhere", []),
        (NAMED, f"[TOOL_CALLS]get_weather{ARGUMENTS}", "", [ROME]),
        (NUMBERED, "<|call_begin|>now<|argument_begin|>{}", "", [NOW]),
        (NUMBERED, f"<|call_begin|>get_weather<|argument_begin|>{ARGUMENTS}", "", [ROME]),
        (BARE, tool_call(OBJECT), "", [ROME]),
        (
            PYTHON,
            "<|tool_call_start|>[get_weather(city=\"R)o]me'\", deep={'a': [1, None]})]",
            "",
            [("get_weather", {"city": "R)o]me'", "deep": {"a": [1, None]}})],
        ),
        (PYTHON, "<|tool_call_start|>[now(]", "<|tool_call_start|>[now(]", []),
    ],
)
def test_other_notations_are_read_leniently(notation, text, content, calls):
    assert read_all_ways(notation, text) == (content, "", calls)


# --- harmony --------------------------------------------------------------------------

THOUGHT = "<|channel|>analysis<|message|>Hm.<|end|>"
HEADER = "<|start|>assistant"
CALL = f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ARGUMENTS}"


@pytest.mark.parametrize(
    ("text", "content", "reasoning", "calls"),
    [
        ("Yes.", "Yes.", "", []),
        (f"{THOUGHT}{HEADER}<|channel|>final<|message|>Yes.<|return|>", "Yes.", "Hm.", []),
        (f"{THOUGHT}assistant<|channel|>final<|message|>Yes.", "Yes.", "Hm.", []),
        (f"{THOUGHT}<|channel|>final<|message|>Yes.", "Yes.", "Hm.", []),
        (f"{HEADER}{THOUGHT}{HEADER}{CALL}", "", "Hm.", [ROME]),
        (f"{THOUGHT}{HEADER}{CALL}<|call|>", "", "Hm.", [ROME]),
        (f"{CALL.replace(' <|constrain|>json', ' json')}<|call|>", "", "", [ROME]),
        (CALL.replace("<|constrain|>json", "code"), "", "", [ROME]),
        (CALL.replace("commentary", "analysis"), "", "", [ROME]),
        (
            f"{HEADER} to=functions.get_weather<|channel|>commentary<|message|>{ARGUMENTS}",
            "",
            "",
            [ROME],
        ),
        (f"{THOUGHT[:-7]}{HEADER}{CALL}", "", "Hm.", [ROME]),
        (
            f"<|channel|>commentary<|message|>I look.<|end|>{HEADER}{CALL}",
            "I look.",
            "",
            [ROME],
        ),
        (f"{THOUGHT}{HEADER}{THOUGHT}", "", "Hm.\n\nHm.", []),
        (f"{CALL}<|call|>{HEADER}{CALL}<|call|>", "", "", [ROME, ROME]),
        (CALL.replace(ARGUMENTS, "").replace("get_weather", "now"), "", "", [NOW]),
        (CALL.replace("get_weather", "get_news"), ARGUMENTS, "", []),
        (CALL.replace("2", '"two"'), ARGUMENTS.replace("2", '"two"'), "", []),
        (CALL[:-1], ARGUMENTS[:-1], "", []),
    ],
)
def test_harmony_is_read_by_its_headers(text, content, reasoning, calls):
    assert read_all_ways(HARMONY, text) == (content, reasoning, calls)


def test_harmony_that_is_cut_off_leaves_no_header():
    text = f"{THOUGHT}{HEADER}{CALL}"
    for end in range(len(text) - 1):
        content, reasoning, calls = read_all_ways(HARMONY, text[:end], is_cut=True)
        assert (content, calls) == ("", []) and "Hm.".startswith(reasoning)


def test_a_prompt_that_ends_within_the_analysis():
    text = f"Hm.<|end|>{HEADER}<|channel|>final<|message|>Yes."
    assert read_all_ways(HARMONY, text, is_thinking=True) == ("Yes.", "Hm.", [])
