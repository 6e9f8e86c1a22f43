"""Calls written in a notation, and the values of their arguments in every style."""

import pytest
from support.notation_pieces import NOW, ROME

from mlxnode.server.notation.notation import (
    PLAIN_CALLS,
    CallNotation,
    Field,
    TaggedArguments,
    ValueStyle,
)
from mlxnode.server.notation.write import write_calls, write_value


@pytest.mark.parametrize(
    ("value", "text", "json", "python", "gemma"),
    [
        ("a 'b'", "a 'b'", "\"a 'b'\"", "\"a 'b'\"", "<|\"|>a 'b'<|\"|>"),
        ("é\n", "é\n", '"é\\n"', "'é\\n'", '<|"|>é\n<|"|>'),
        ("3", "3", '"3"', "'3'", '<|"|>3<|"|>'),
        (-3, "-3", "-3", "-3", "-3"),
        (0.5, "0.5", "0.5", "0.5", "0.5"),
        (True, "true", "true", "True", "true"),
        (None, "null", "null", "None", "null"),
        ([], "[]", "[]", "[]", "[]"),
        ({}, "{}", "{}", "{}", "{}"),
        (
            {"a": ["b", {"c": False}]},
            '{"a": ["b", {"c": false}]}',
            '{"a": ["b", {"c": false}]}',
            "{'a': ['b', {'c': False}]}",
            '{a:[<|"|>b<|"|>,{c:false}]}',
        ),
    ],
)
def test_write_value_in_each_style(value, text, json, python, gemma):
    written = [write_value(value, style) for style in ValueStyle]
    assert written == [text, json, python, gemma]


def test_write_calls_fills_every_field():
    call = ("<", Field.INDEX, "|", Field.ID, "|", Field.NAME, "|", Field.ARGUMENTS, ">")
    notation = CallNotation(call, start="[", separator=", ", end="]")
    assert write_calls(notation, [ROME, NOW], ["a", "b"]) == (
        '[<0|a|get_weather|{"city": "Rome", "days": 2}>, <1|b|now|{}>]'
    )
    assert "|000000001|now" in write_calls(notation, [ROME, NOW])


def test_write_calls_tells_strings_from_other_values():
    tags = TaggedArguments(
        before_key="<",
        before_value=" s>",
        after_value="/>",
        separator=";",
        style=ValueStyle.TEXT,
        before_other_value=" o>",
    )
    notation = CallNotation(("(", Field.NAME, ")", Field.ARGUMENTS), arguments=tags)
    assert write_calls(notation, [ROME, NOW]) == "(get_weather)<city s>Rome/>;<days o>2/>(now)"


def test_write_calls_in_plain_words():
    assert write_calls(PLAIN_CALLS, [NOW]) == (
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    )
