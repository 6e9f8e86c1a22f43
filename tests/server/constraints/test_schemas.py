"""What becomes of the schemas of clients, strict and not."""

import time
from typing import Any

import pytest
from support.client_schemas import CLIENT_SCHEMAS
from support.schema_grammars import PARAM, accepts

from mlxnode.server.constraints.schemas import prepared
from mlxnode.server.errors import InvalidRequest

TEXT: dict[str, Any] = {"type": "string"}


@pytest.mark.parametrize("name", CLIENT_SCHEMAS)
def test_schemas_of_clients_are_followed(name: str):
    schema, value = CLIENT_SCHEMAS[name]
    assert accepts(schema, value)
    if isinstance(value, dict):
        assert not accepts(schema, {**value, "invented": [{}]})


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"not": {"type": "null"}}, ["a", 1], [None]),
        ({"not": {"anyOf": [{"type": "null"}, {"type": "string"}]}}, [1, []], [None, "a"]),
        (
            {"properties": {"a": TEXT, "b": TEXT}, "not": {"required": ["a", "b"]}},
            [{"a": ""}, {"b": ""}],
            [{"a": "", "b": ""}],
        ),
        (
            {
                "type": "object",
                "properties": {"a": TEXT, "b": TEXT},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
            [{"a": ""}, {"b": ""}],
            [{}, {"a": "", "b": ""}],
        ),
        (
            {"properties": {"a": TEXT, "b": TEXT}, "dependentRequired": {"a": ["b"]}},
            [{"a": "", "b": ""}, {"b": ""}, {}],
            [{"a": ""}],
        ),
        (
            {"type": "object", "propertyNames": {"enum": ["a"]}, "additionalProperties": TEXT},
            [{"a": ""}, {}],
            [{"b": ""}, {"a": 1}],
        ),
        (
            {
                "type": "object",
                "propertyNames": {"pattern": "^a"},
                "additionalProperties": TEXT,
            },
            [{"ab": ""}],
            [{"b": ""}, {"ab": 1}],
        ),
        ({"type": "object", "propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
        (
            {"properties": {"a": TEXT, "b": TEXT}, "minProperties": 2},
            [{"a": "", "b": ""}],
            [{"a": ""}],
        ),
        ({"items": [TEXT], "additionalItems": False}, [["a"], []], [["a", "b"], [1]]),
        ({"prefixItems": [TEXT], "unevaluatedItems": False}, [["a"]], [["a", "b"]]),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, [0.5], [0]),
        ({"type": "array", "contains": TEXT, "minContains": 0}, [[1]], [1]),
        ({"$ref": "#x", "$defs": {"t": {"$anchor": "x", **TEXT}}}, ["a"], [1]),
        (
            {"$id": "https://a.de/b", "$ref": "c", "$defs": {"t": {"$id": "c", **TEXT}}},
            ["a"],
            [1],
        ),
        (
            {
                "$dynamicAnchor": "n",
                "properties": {"v": TEXT, "n": {"$dynamicRef": "#n"}},
            },
            [{"n": {"v": ""}}],
            [{"n": {"w": ""}}],
        ),
        ({"properties": {"a": {"not": {}}, "b": TEXT}}, [{"b": ""}], [{"a": 1}]),
        ({"const": {"a": [1.5, None]}}, [{"a": [1.5, None]}], [{"a": [1.5]}]),
    ],
)
def test_what_llguidance_lacks_is_said_in_other_words(schema: Any, valid: Any, invalid: Any):
    assert not [value for value in valid if not accepts(schema, value, strict=True)]
    assert not [value for value in invalid if accepts(schema, value, strict=True)]


@pytest.mark.parametrize(
    ("keywords", "keyword", "value"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems", [1, 1]),
        ({"type": "array", "contains": TEXT}, "contains", [1]),
        ({"not": {"minLength": 3}}, "not", "abcd"),
        ({"not": {"required": [{}]}}, "not", 1),
        ({"not": {"required": 5}}, "not", 1),
        ({"oneOf": [{"minLength": 1}, {"maxLength": 3}]}, "oneOf", "ab"),
        ({"if": {"minLength": 3}, "then": {"pattern": "^a"}}, "if", "ab"),
        ({"type": "string", "format": "cuid"}, "format", "a"),
        ({"$ref": "https://example.com/a.json"}, "$ref", 1),
        ({"$ref": "#/$defs/missing"}, "$ref", 1),
        ({"allOf": [{"$ref": "#/properties/x"}, {}]}, "$ref", 1),
        ({"propertyNames": {"format": "email"}}, "propertyNames", {"a": 1}),
        ({"patternProperties": {"^(?!a)b": TEXT}}, "patternProperties", {"b": 1}),
        ({"patternProperties": {"^a": TEXT, "a$": TEXT}}, "patternProperties", {"a": ""}),
        ({"unevaluatedProperties": TEXT, "allOf": [{}]}, "unevaluatedProperties", {"a": 1}),
        (
            {"allOf": [{"unevaluatedProperties": False}, {"properties": {"a": TEXT}}]},
            "unevaluatedProperties",
            {"a": ""},
        ),
        ({"type": "object", "minProperties": 3}, "minProperties", {"a": 1, "b": 1, "c": 1}),
        ({"enum": [1, 12345678901234567890]}, "enum", 1),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63}, "maximum", 5),
        ({"type": "number", "multipleOf": 1e20}, "multipleOf", 5),
        ({"type": "object", "required": True}, "required", {}),
    ],
)
def test_what_cannot_be_enforced_is_left_out_or_refused(
    keywords: Any, keyword: str, value: Any
):
    schema = {"type": "object", "properties": {"x": keywords}}
    assert accepts(schema, {"x": value})
    with pytest.raises(InvalidRequest) as caught:
        accepts(schema, {"x": value}, strict=True)
    assert caught.value.param == PARAM
    assert f"'{keyword}' cannot be enforced" in caught.value.message
    assert "at properties.x" in caught.value.message
    assert "\n" not in caught.value.message
    assert "remove it, or set 'tools[1].function.strict' to false" in caught.value.message


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": 3}, "at the top, type must be a string or a list of strings"),
        ({"properties": {"a": "string"}}, "properties must be an object of schemas"),
        ({"properties": {"a": {"anyOf": []}}}, "at properties.a, anyOf must be a list"),
        ({"items": {"minLength": -1}}, "at items, minLength must be a whole number from 0"),
        ({"enum": "a"}, "enum must be a list"),
        ({"minimum": True}, "minimum must be a number"),
        ({"not": {"type": 5}}, "at not, type must be a string"),
        ({"if": {"enum": 5}, "then": False}, "at if, enum must be a list"),
        ({"pattern": 1}, "pattern must be a string"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_no_schema_is_refused_by_place(schema: Any, reason: str, strict: bool):
    with pytest.raises(InvalidRequest) as caught:
        prepared(schema, PARAM, strict=strict)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "itself",
    [
        {"oneOf": [{"$dynamicRef": "#"}, {"$ref": "#"}, {"minLength": 1}]},
        {"not": {"$ref": "#"}},
        {"if": {"$ref": "#"}, "then": {"minLength": 1}},
        {"propertyNames": {"$ref": "#"}},
        {"allOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}]},
        {"minLength": 1, "anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}, TEXT]}, TEXT]},
        {"dependentSchemas": {"a": {"$ref": "#"}}},
    ],
)
def test_a_schema_that_applies_itself_comes_to_an_end(itself: Any):
    assert accepts({"type": "string", **itself}, "a")


def test_properties_may_have_the_names_of_keywords():
    names = ["enum", "const", "$ref", "$id", "properties", "type", "default", "items"]
    schema = {"type": "object", "properties": {name: TEXT for name in names}}
    assert accepts(schema, dict.fromkeys(names, "x"), strict=True)


def chain(length: int, **keywords: Any) -> dict[str, Any]:
    """Definitions that each refer to the next one twice, as conjuncts and as choices."""
    definitions: dict[str, Any] = {f"d{length}": TEXT}
    for i in range(length):
        following = {"$ref": f"#/$defs/d{i + 1}"}
        both = {"allOf": [following, following]}
        definitions[f"d{i}"] = {**keywords, "anyOf": [both, following]}
    return {"$ref": "#/$defs/d0", "$defs": definitions}


@pytest.mark.parametrize("keywords", [{}, {"minLength": 1}, {"properties": {"a": TEXT}}])
@pytest.mark.parametrize("length", [30, 400])
def test_schemas_that_grow_with_their_references_are_refused(length: int, keywords: Any):
    started = time.process_time()
    with pytest.raises(InvalidRequest, match=r"too large|too many"):
        prepared(chain(length, **keywords), PARAM, strict=False)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("key", ["allOf", "anyOf", "items", "properties", "not"])
def test_deep_schemas_are_prepared(key: str):
    schema: dict[str, Any] = TEXT
    for _ in range(45):
        schema = {key: schema if key in ("items", "not") else [schema]}
        schema = (
            {"properties": {"a": schema["properties"][0]}} if key == "properties" else schema
        )
    assert prepared(schema, PARAM, strict=False)
