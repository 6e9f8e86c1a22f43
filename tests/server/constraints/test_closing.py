"""Objects are closed over the whole of their composition, and only then."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator as Validator
from support.random_compositions import CompositionMaker
from support.schema_grammars import accepts, accepts_text, random_text

from mlxnode.server.constraints.constraint import json_grammar
from mlxnode.server.constraints.schemas import prepared

NUM_SCHEMAS = 40
TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "integer"}


def obj(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


A, B = obj("a", a=TEXT), obj("b", b=NUMBER)
DEFINED = {"$defs": {"A": A, "B": B}}
REF_A, REF_B = {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}
TREE = obj("v", v=NUMBER, children={"type": "array", "items": {"$ref": "#"}})


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        (A, [{"a": "x"}], [{"a": "x", "b": 1}]),
        ({"allOf": [A, B]}, [{"a": "x", "b": 1}], [{"a": "x", "b": 1, "c": 1}]),
        ({**A, "allOf": [B]}, [{"a": "x", "b": 1}], [{"a": "x"}]),
        ({"allOf": [REF_A, REF_B], **DEFINED}, [{"a": "x", "b": 1}], [{"a": "x"}]),
        ({"anyOf": [A, B]}, [{"a": "x"}, {"b": 1}], [{"a": "x", "b": 1}]),
        (
            {**obj("k", k=TEXT), "anyOf": [REF_A, REF_B], **DEFINED},
            [{"k": "", "a": "x"}, {"k": "", "b": 1}],
            [{"k": ""}, {"k": "", "a": "x", "b": 1}, {"k": "", "a": "x", "c": 1}],
        ),
        (
            {**obj(k=TEXT, m=TEXT), "anyOf": [{"required": ["k"]}, {"required": ["m"]}]},
            [{"k": ""}, {"m": ""}, {"k": "", "m": ""}],
            [{}, {"k": "", "c": 1}],
        ),
        # Alone and inside an allOf, the same definition has other names around it.
        (
            {**obj(x=REF_A, y={"allOf": [REF_A, REF_B]}), **DEFINED},
            [{"x": {"a": ""}, "y": {"a": "", "b": 1}}],
            [{"x": {"a": "", "b": 1}}, {"y": {"a": ""}}, {"y": {"a": "", "b": 1, "c": 1}}],
        ),
        # Both conjuncts describe the same property.
        (
            {"allOf": [obj("p", p=A), obj("p", p=B)]},
            [{"p": {"a": "", "b": 1}}],
            [{"p": {"a": ""}}, {"p": {"a": "", "b": 1, "c": 1}}],
        ),
        ({**obj("p", p=A), "anyOf": [obj(p=B), obj(q=TEXT)]}, [{"p": {"a": "", "b": 1}}], [{}]),
        (TREE, [{"v": 1, "children": [{"v": 2}]}], [{"v": 1, "children": [{"v": 2, "w": 1}]}]),
        (
            {
                **obj("t", t={"enum": ["m", "n"]}),
                "if": obj(t={"const": "m"}),
                "then": A,
                "else": B,
            },
            [{"t": "m", "a": ""}, {"t": "n", "b": 1}],
            [{"t": "m", "b": 1}, {"t": "n", "a": ""}, {"t": "m", "a": "", "c": 1}],
        ),
        ({**A, "dependentSchemas": {"a": B}}, [{"a": "", "b": 1}], [{"a": ""}, {"c": 1}]),
        (
            {**A, "patternProperties": {"^x-": NUMBER}},
            [{"a": "", "x-y": 1}],
            [{"a": "", "y": 1}],
        ),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_objects_are_closed_as_a_whole(schema: Any, valid: Any, invalid: Any, strict: bool):
    assert not [value for value in valid if not accepts(schema, value, strict=strict)]
    assert not [value for value in invalid if accepts(schema, value, strict=strict)]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "required": ["a"]},
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": {}},
        {**A, "additionalProperties": NUMBER},
        {**A, "unevaluatedProperties": True},
        {"allOf": [A, {"type": "object", "additionalProperties": True}]},
        {"allOf": [A, {"patternProperties": {"^c": NUMBER}}]},
    ],
)
def test_objects_are_left_open_where_the_schema_says_so(schema: Any):
    assert accepts(schema, {"a": "", "c": 1})


def test_a_switch_leaves_objects_as_the_schema_says():
    assert accepts(A, {"a": "", "c": 1}, closed=False)
    assert not accepts({**A, "additionalProperties": False}, {"a": "", "c": 1}, closed=False)
    forbidding = {"allOf": [A, B], "unevaluatedProperties": False}
    assert accepts(forbidding, {"a": "", "b": 1}, closed=False)
    assert not accepts(forbidding, {"a": "", "b": 1, "c": 1}, closed=False)


@pytest.mark.parametrize("text", ['{"a": "", "a": ""}', '{"a": "", "\\u0061": 1}'])
def test_an_open_object_does_not_repeat_a_listed_key(text: str):
    assert not accepts_text({**A, "additionalProperties": True}, text)


LIST_OF_BASE = {"type": "array", "items": {"$ref": "#/$defs/Base"}}
LIST_OF_NODES = {"type": "array", "items": {"$ref": "#/$defs/Node"}}
DERIVED = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Base": obj(id=NUMBER, inner=LIST_OF_BASE, other=LIST_OF_BASE),
        "Node": {"allOf": [{"$ref": "#/$defs/Base"}, obj(inner=LIST_OF_NODES, name=TEXT)]},
    },
}


def test_a_recursive_schema_that_extends_a_recursive_schema_stays_small():
    written = prepared(DERIVED, "schema", strict=True)
    assert len(written["$defs"]) < 8
    inner = {"id": 2, "inner": [{"id": 3, "name": "c"}], "name": "b"}
    assert accepts(DERIVED, {"id": 1, "inner": [inner], "other": [{"id": 4}], "name": "a"})
    assert not accepts(DERIVED, {"id": 1, "inner": [{**inner, "x": 1}]})
    assert not accepts(DERIVED, {"id": 1, "other": [{"id": 4, "name": "d"}]})


def test_definitions_are_written_once():
    schema = obj(**{f"p{i}": REF_A for i in range(50)}) | DEFINED
    assert len(prepared(schema, "schema", strict=True)["$defs"]) == 1


def invented(value: Any, owner: str, known: dict[str, set[str]]) -> Iterator[str]:
    """The keys of ``value`` that its schema does not know."""
    if isinstance(value, list):
        for item in value:
            yield from invented(item, owner, known)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in known[owner]:
                yield from invented(item, key, known)
            else:
                yield key


@pytest.mark.slow
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_random_compositions_stay_satisfiable_and_exact(closed: bool, strict: bool):
    num_ended = 0
    for seed in range(NUM_SCHEMAS):
        maker = CompositionMaker(seed)
        schema, value = maker.make()
        Validator(schema).validate(value)
        Validator(prepared(schema, "schema", strict=strict, closed=closed)).validate(value)
        text = random_text(json_grammar(schema, "schema", strict=strict, closed=closed), seed)
        if text is not None:
            num_ended += 1
            answer = json.loads(text)
            Validator(schema).validate(answer)
            assert not closed or not list(invented(answer, "", maker.known)), schema
    assert num_ended > 0.9 * NUM_SCHEMAS
