"""Values of another type: what is mended, and that the JSON schema says the same."""

import copy
import json
from typing import Annotated, Any

import jsonschema
import pytest
from pydantic import Field, WithJsonSchema

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.body import Body
from mlxnode.server.formats.loose import LooseJsonSchema
from mlxnode.server.reading.validation import validate


class Inner(Body):
    flag: bool | None = None
    more: "list[Inner] | None" = None


class Example(Body):
    whole: int | None = None
    number: Annotated[float, Field(ge=0, le=1)] | None = None
    flag: bool | None = None
    text: str | None = None
    either: bool | str | None = None
    record: dict[str, Any] | None = None
    inner: Inner | None = None
    several: list[Inner] | None = None
    ids: list[Annotated[int, WithJsonSchema({"type": "integer"})]] | None = None

    exact = ("ids",)
    spellings = {"nombre": "number", "zahl": "number"}  # noqa: RUF012


VALUES = [
    *("0", "7", "-7", "07", "7.0", "0.5", "-0", "1e0", "1e99", " 1", "+1", "1_0", "٣"),
    *("", "true", "True", "TRUE", "false", "yes", "1" * 20, "0." + "5" * 20, "NaN"),
    *(0, 1, 0.5, True, False, None, [], {}, [[]], [{}], {"flag": "true"}, [{"flag": "x"}]),
    *(["1"], [1], {"a": []}, 2.0, -3.0, -0.0, 1e30, 1e300, 2.5),
]


@pytest.mark.parametrize("name", [*Example.model_fields, *Example.spellings])
def test_mending_and_schema_agree(name):
    schema = Example.model_json_schema(schema_generator=LooseJsonSchema)
    validator = jsonschema.Draft202012Validator(schema)
    # The bounds of a number that is text are no part of a schema.
    bounds = ("1e99", "7", "-7", "7.0")
    found = {True: 0, False: 0}
    for value in VALUES:
        if name in ("number", *Example.spellings) and value in bounds:
            continue
        value = copy.deepcopy(value)  # mending replaces what is in it
        try:
            validate(Example, {name: value})
            is_valid = True
        except InvalidRequest:
            is_valid = False
        assert validator.is_valid({name: value}) == is_valid, value
        found[is_valid] += 1
    assert found[True] and (found[False] or name == "either")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"whole": "12"}, {"whole": 12}),
        ({"whole": 12.0}, {"whole": 12}),
        ({"number": "5e-1"}, {"number": 0.5}),
        ({"flag": "False"}, {"flag": False}),
        ({"either": "true"}, {"either": "true"}),
        ({"record": []}, {"record": {}}),
        ({"inner": []}, {"inner": Inner()}),
        ({"inner": {"flag": "true"}}, {"inner": Inner(flag=True)}),
        ({"several": {}}, {"several": []}),
        ({"several": [[], {"flag": "true"}]}, {"several": [Inner(), Inner(flag=True)]}),
        (
            {"several": [{"more": [[]]}, {"more": None}, {}, {"more": {}}, {"more": [[]]}]},
            {"several": [{"more": [{}]}, {"more": None}, {}, {"more": []}, {"more": [{}]}]},
        ),
        ({"nombre": "0.5"}, {"number": 0.5}),
        ({"nombre": 0.5, "zahl": 0.5, "number": 0.25}, {"number": 0.25}),
    ],
)
def test_validate_reads_the_only_meaning(raw, expected):
    body, _ = validate(Example, raw)
    assert body.model_dump(exclude_unset=True) == Example(**expected).model_dump(
        exclude_unset=True
    )


@pytest.mark.parametrize(
    ("raw", "param", "message"),
    [
        ({"number": "2"}, "number", "expected a value <= 1.0, got 2.0"),
        ({"nombre": "2"}, "nombre", "expected a value <= 1.0, got 2.0"),
        ({"number": 1, "zahl": "x"}, "zahl", "expected a number, but got a string"),
        ({"whole": "1.5"}, "whole", "expected an integer, but got a string"),
        ({"ids": ["1"]}, "ids[0]", "expected an integer, but got a string"),
        ({"several": [{}, [1]]}, "several[1]", "expected an object, but got an array"),
        ({"several": [{"more": [[]]}, {"more": 7}]}, "several[1].more", "but got an integer"),
        ({"several": [{"more": [[]]}, {"more": True}]}, "several[1].more", "got a boolean"),
        ({"inner": {"flag": "maybe"}}, "inner.flag", "expected a boolean, but got a string"),
        ({"whole": "9" * 5000}, "whole", "expected an integer"),
    ],
)
def test_validate_names_what_has_no_meaning(raw, param, message):
    with pytest.raises(InvalidRequest) as caught:
        validate(Example, raw)
    assert caught.value.param == param and message in caught.value.message


def test_fields_that_are_mended_one_after_the_other_are_bounded():
    texts = ['{"flag": "true"}', '{"more": {}}', '{"more": [[]]}']
    texts += [f'{{"more": [{text}]}}' for text in texts]
    items = [json.loads(text) for text in texts]
    body, _ = validate(Example, {"several": copy.deepcopy(items[:5])})
    assert body.several[4].more[0].more == []
    with pytest.raises(InvalidRequest) as caught:
        validate(Example, {"several": items})
    assert (caught.value.param, caught.value.code) == (
        "several[5].more[0].more[0]",
        "invalid_type",
    )


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ({"number": 0.5, "zahl": 0.5}, []),
        ({"number": 0.5, "zahl": 0.25}, ["zahl"]),
        ({"nombre": 0.5, "zahl": 0.25}, ["zahl"]),
        ({"number": None, "zahl": 0.25}, []),
        ({"number": 0.5, "zahl": None}, []),
        ({"zahl": 0.5, "other": 1}, ["other"]),
    ],
)
def test_a_spelling_that_is_not_used_is_named(raw, names):
    assert validate(Example, raw)[1] == names


def test_strict_refuses_fields_that_nobody_documents_alone():
    raw = {"zahl": 0.5, "whole": 1, "number": 1}
    assert validate(Example, dict(raw), strict=True)[1] == ["zahl"]
    with pytest.raises(InvalidRequest) as caught:
        validate(Example, raw | {"inner": {"x": 1}}, strict=True)
    assert (caught.value.param, caught.value.code) == ("inner.x", "unknown_parameter")
