"""Arguments are made to fit the schema of a function, or refused."""

from typing import Any

import pytest

from mlxnode.server.notation.tool_use import Function
from mlxnode.server.parsing.arguments import Misfit, RawText, fit_arguments

NODE = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "next": {"$ref": "#/$defs/n"}},
}


def fit(schema: Any, value: Any, **options: Any) -> Any:
    parameters = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    parameters["$defs"] = {"n": NODE, "loop": {"$ref": "#/$defs/loop"}}
    function = Function(name="f", parameters=parameters, param="tools")
    return fit_arguments(function, {"x": value}, **options)["x"]


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "null", "null"),
        ({"type": "string"}, "2", "2"),
        ({"type": "string"}, ' {"a": 1}\n', ' {"a": 1}\n'),
        ({"type": "integer"}, " 2 ", 2),
        ({"type": "integer"}, "2.0", 2),
        ({"type": "number"}, "2", 2),
        ({"type": "number"}, "-2.5e1", -25.0),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "False", False),
        ({"type": "null"}, "None", None),
        ({"type": "array"}, "['a', 1,]", ["a", 1]),
        ({"type": "array", "items": {"type": "integer"}}, '["1", 2]', [1, 2]),
        ({"type": "object"}, '{"a": null}', {"a": None}),
        ({"type": ["integer", "string"]}, "2", 2),
        ({"type": ["integer", "string"]}, "two", "two"),
        ({"type": ["string", "null"]}, "null", None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "null", None),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "007", "007"),
        ({"$ref": "#/$defs/n"}, '{"n": "1", "next": {"n": 2}}', {"n": 1, "next": {"n": 2}}),
        ({"allOf": [{"$ref": "#/$defs/n"}]}, '{"n": 1}', {"n": 1}),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({"enum": [1, 2]}, "1", 1),
        ({"const": True}, "true", True),
        ({}, "2", 2),
        ({}, "two", "two"),
        (True, '{"a": [1]}', {"a": [1]}),
        ({"$ref": "#/nowhere"}, "two", "two"),
        ({"$ref": "#/$defs/loop"}, "two", "two"),
    ],
)
def test_text_is_converted_by_the_schema(schema, text, value):
    fitted = fit(schema, RawText(text))
    assert fitted == value and type(fitted) is type(value)


@pytest.mark.parametrize(
    ("schema", "value", "fitted"),
    [
        ({"type": "integer"}, "2", 2),
        ({"type": "integer"}, 2.0, 2),
        ({"type": "boolean"}, "true", True),
        ({"type": "array"}, "[1]", [1]),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "2", "2"),
        ({"type": "string", "nullable": True}, None, None),
        ({"properties": {"a": {"type": "integer"}}}, {"a": "1", "b": "2"}, {"a": 1, "b": "2"}),
        ({"additionalProperties": {"type": "integer"}}, {"b": "2"}, {"b": 2}),
        (
            {"prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
            ["1", "2"],
            [1, "2"],
        ),
        ({"properties": {"a": {"type": "integer"}}}, {"a": None}, {}),
    ],
)
def test_values_are_converted_where_there_is_one_way(schema, value, fitted):
    assert fit(schema, value) == fitted


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, "two"),
        ({"type": "integer"}, 2.5),
        ({"type": "integer"}, True),
        ({"type": "string"}, ["Rome"]),
        ({"type": "string"}, 7),
        ({"type": "boolean"}, 1),
        ({"type": "array", "items": {"type": "integer"}}, ["x"]),
        ({"enum": ["c", "f"]}, "k"),
        ({"enum": [1]}, True),
        ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, "x"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"b": 1}),
        ({"$ref": "#/$defs/n"}, {"next": {"n": "x"}}),
        (False, 1),
    ],
)
def test_what_does_not_fit_is_refused(schema, value):
    with pytest.raises(Misfit):
        fit(schema, value)


def test_parts_of_a_composition_are_not_closed_one_by_one():
    parts = [
        {"properties": {"a": {}}, "additionalProperties": False},
        {"properties": {"b": {"type": "integer"}}, "additionalProperties": False},
    ]
    assert fit({"allOf": parts}, {"a": 1, "b": "2"}) == {"a": 1, "b": 2}


def test_numbers_are_text_where_the_notation_has_no_quotes():
    assert fit({"type": "string"}, 7, is_loose=True) == "7"


def test_missing_arguments_are_left_to_the_client():
    parameters = {"type": "object", "properties": {"x": {}}, "required": ["x"]}
    function = Function(name="f", parameters=parameters, param="tools")
    assert fit_arguments(function, {}) == {}


@pytest.mark.timeout(20)
def test_the_work_for_a_schema_is_bounded():
    wide: dict[str, Any] = {"type": "object"}
    for _ in range(12):
        wide = {"anyOf": [{"properties": {"a": wide}, "required": [str(i)]} for i in range(9)]}
    value: dict[str, Any] = {}
    for _ in range(30):
        value = {"a": value}
    assert fit(wide, value) == value
