"""The constraints that a request can set, and the errors for unusable constraints."""

import asyncio
import json
import time
from typing import Any

import openai
import pytest
from support.contract import tool_use

from mlxnode.messages.data import Generate
from mlxnode.server.constraints.constraint import MAX_TEXT_BYTES, check_grammar, json_grammar
from mlxnode.server.constraints.document import MAX_SCHEMA_BYTES
from mlxnode.server.constraints.tool_grammar import answer_grammar, tool_grammar
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.request import constraint_of
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.reading.validation import validate

SCHEMA = "response_format.json_schema.schema"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def chat(**fields: Any) -> ChatBody:
    raw = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return validate(ChatBody, raw)[0]


def schema_format(schema: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **fields}}


async def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await answer_grammar(constraint_of(chat(**fields)), None)
    return caught.value


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}])
async def test_answer_grammar_a_free_answer_is_none(fields: dict[str, Any]):
    assert await answer_grammar(constraint_of(chat(**fields)), None) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": schema_format(PERSON, strict=True, description="a person")},
        {"response_format": schema_format({"not": {"type": "null"}})},
        {"guided_json": PERSON},
        {"guided_json": nested(90)},
        {"guided_regex": r"^\d+/\w*$"},
        {"guided_choice": ["yes", "no"], "response_format": {"type": "text"}},
        {"guided_grammar": 'start: "a" b\nb: /[0-9]+/'},
    ],
)
async def test_answer_grammar_takes_what_can_be_followed(fields: dict[str, Any]):
    assert json.loads(await answer_grammar(constraint_of(chat(**fields)), None))["grammars"]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "strin"}, "Invalid type: strin"),
        ({"not": {"minLength": 2}}, "'not' cannot be enforced"),
        ({"type": "string", "pattern": "a(?=b)"}, "look-ahead"),
        ({"type": "string", "pattern": "("}, "unclosed group"),
        ({"type": "string", "format": "regex"}, "Unknown format: regex"),
        ({"$ref": "#/$defs/missing"}, "does not exist"),
        ({"$ref": "https://example.com/a.json"}, "example.com"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "Unsatisfiable"),
        ({"enum": []}, "Unsatisfiable"),
        ({"type": "object", "minProperties": 3}, "minProperties"),
        ({"properties": {"a": {"minProperties": 2}}}, "minProperties"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"properties": {f"p{i}": {"type": "string"} for i in range(1000)}}, "items"),
        (nested(101), "nested more than 100 levels"),
        ({"enum": ["x" * MAX_SCHEMA_BYTES]}, f"at most {MAX_SCHEMA_BYTES}"),
        ({"x-guidance": {"lenient": True}, "not": {"minLength": 2}}, "'not' cannot"),
    ],
)
async def test_answer_grammar_refuses_a_schema_with_the_reason(schema: Any, reason: str):
    error = await refusal(response_format=schema_format(schema, strict=True))
    assert error.param == SCHEMA
    assert error.code == "invalid_grammar"
    assert reason in error.message
    assert "\n" not in error.message
    assert len(error.message) < 500


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("guided_json", {"type": 3}, "type must be"),
        ("guided_regex", "(a", "unclosed group"),
        ("guided_regex", "(" * 5000 + "a" + ")" * 5000, "nest"),
        ("guided_regex", "a" * (MAX_TEXT_BYTES + 1), "at most"),
        ("guided_choice", ["ä" * MAX_TEXT_BYTES], "at most"),
        ("guided_grammar", "start: missing", 'unknown name: "missing"'),
        ("guided_grammar", 'root ::= "a" b', "no rule 'b'"),
        ("guided_grammar", "start: <|im_start|>", "special token"),
        ("guided_grammar", "{}", "expecting rule"),
        ("guided_grammar", "start: a\n" * 4000, "at most"),
        ("guided_grammar", "start: " + "(" * 3000 + '"a"' + ")" * 3000, "too deeply nested"),
    ],
)
async def test_answer_grammar_refuses_an_extra_by_name(field: str, value: Any, reason: str):
    error = await refusal(**{field: value})
    assert error.param == field
    assert reason in error.message


async def test_answer_grammar_refuses_two_wishes():
    error = await refusal(response_format={"type": "json_object"}, guided_regex="a")
    assert error.param == "guided_regex"
    assert error.code == "invalid_parameter_combination"


@pytest.mark.parametrize(
    ("value", "param", "code"),
    [
        ("json", "response_format", "invalid_type"),
        ({"type": "yaml"}, "response_format.type", "unsupported_value"),
        ({}, "response_format.type", "missing_required_parameter"),
        (
            {"type": "json_schema"},
            "response_format.json_schema",
            "missing_required_parameter",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "x"}},
            SCHEMA,
            "missing_required_parameter",
        ),
        (schema_format([1]), SCHEMA, "invalid_type"),
        (schema_format("{"), SCHEMA, "invalid_type"),
        ({"type": "regex"}, "response_format.value", "missing_required_parameter"),
        ({"type": "regex", "value": {}}, "response_format.value", "invalid_type"),
        ({"type": "json", "value": "x"}, "response_format.value", "invalid_type"),
        ({"type": "grammar"}, "response_format.grammar", "missing_required_parameter"),
        (
            {"type": "text", "json_schema": {"name": "x", "schema": {}}},
            "response_format.json_schema",
            "invalid_parameter_combination",
        ),
    ],
)
def test_response_format_is_validated_by_path(value: Any, param: str, code: str):
    with pytest.raises(InvalidRequest) as caught:
        chat(response_format=value)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_json_grammar_drops_the_schemas_own_options():
    grammar = json.loads(json_grammar({"x-guidance": {"lenient": True}}, "schema"))
    options = grammar["grammars"][0]["json_schema"]["x-guidance"]
    assert "lenient" not in options


async def test_check_grammar_leaves_the_event_loop_free():
    schema = {"properties": {f"p{i}": {"type": "string"} for i in range(450)}}
    checking = asyncio.create_task(check_grammar(json_grammar(schema, "schema"), "schema"))
    num_turns = 0
    while not checking.done():
        await asyncio.sleep(0)
        num_turns += 1
    await checking
    assert num_turns > 100


def test_json_grammar_is_quick_with_the_largest_schema():
    schema = {"enum": [f"value {i}" for i in range(4000)]}
    started = time.perf_counter()
    json_grammar(schema, "schema")
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("parallel", [True, False])
async def test_tool_grammar_compiles(parallel: bool):
    tools = [
        {"name": "a", "parameters": PERSON, "strict": True},
        {"name": "b", "parameters": {"not": {"minProperties": 2}, "properties": {}}},
        {"name": "c"},
    ]
    for choice in ("required", "auto"):
        for answer in (None, json_grammar(PERSON, "response_format")):
            use = tool_use(*tools, tool_choice=choice, parallel_tool_calls=parallel)
            await check_grammar(tool_grammar(use, answer), "tools")


@pytest.mark.parametrize(
    "parameters", [{"type": "string"}, nested(101), {"enum": ["x" * MAX_SCHEMA_BYTES]}]
)
def test_tool_grammar_refuses_parameters_by_path(parameters: Any):
    with pytest.raises(InvalidRequest) as caught:
        tool_grammar(tool_use({"name": "a"}, {"name": "b", "parameters": parameters}))
    assert caught.value.param == "tools[1].function.parameters"


async def test_answer_grammar_names_the_function_that_nothing_satisfies():
    impossible = {"properties": {"x": {"enum": []}}, "required": ["x"]}
    use = tool_use(
        {"name": "a", "parameters": PERSON},
        {"name": "b", "parameters": impossible},
        tool_choice="required",
    )
    with pytest.raises(InvalidRequest, match="Unsatisfiable") as caught:
        await answer_grammar(None, use)
    assert caught.value.param == "tools[1].function.parameters"


async def test_answer_grammar_closes_objects_unless_told_otherwise():
    open_person = {**PERSON, "additionalProperties": None}
    use = tool_use({"name": "a", "parameters": open_person}, tool_choice="required")
    constraint = constraint_of(chat(guided_json=open_person))
    for closed in (True, False):
        grammar = await answer_grammar(None, use, closed=closed)
        assert ('"additionalProperties": false' in str(grammar)) is closed
        grammar = await answer_grammar(constraint, None, closed=closed)
        assert ('"additionalProperties": false' in str(grammar)) is closed


def test_tool_grammar_refuses_too_much_in_all():
    tools = [{"name": f"f{i}", "parameters": {"enum": ["x" * 40_000]}} for i in range(4)]
    with pytest.raises(InvalidRequest, match="at most") as caught:
        tool_grammar(tool_use(*tools))
    assert caught.value.param == "tools"


def test_chat_sends_the_grammar_to_the_engine(worker: Any):
    worker.client().chat.completions.create(
        model="tiny-chat",
        messages=[{"role": "user", "content": "hi"}],
        response_format=schema_format(PERSON, strict=True),
    )
    grammar = json.loads(worker.engine.next(Generate).sampling.grammar)
    assert PERSON.items() <= grammar["grammars"][0]["json_schema"].items()


def test_completions_send_the_grammar_to_the_engine(worker: Any):
    worker.client().completions.create(
        model="org/tiny-text", prompt="a", extra_body={"guided_choice": ["yes", "no"]}
    )
    assert "yes" in worker.engine.next(Generate).sampling.grammar


def test_chat_answers_a_bad_schema_with_400(worker: Any):
    with pytest.raises(openai.BadRequestError) as caught:
        worker.client().chat.completions.create(
            model="tiny-chat",
            messages=[{"role": "user", "content": "hi"}],
            response_format=schema_format({"type": "strin"}, strict=True),
        )
    assert caught.value.param == SCHEMA
    assert worker.settled.empty()
    assert worker.engine.received.empty()


@pytest.mark.slow
def test_closed_objects_of_the_configuration(start_worker: Any, served_models: Any):
    open_person = {**PERSON, "additionalProperties": None}
    for closed in (True, False):
        with start_worker(
            served_models, {"require_auth": False}, {"closed_objects": closed}
        ) as worker:
            worker.connect_engine()
            for extra in ({"tool_choice": "required"}, {}):
                tool = {
                    "type": "function",
                    "function": {"name": "f", "parameters": open_person},
                }
                worker.client().chat.completions.create(
                    model="tiny-chat",
                    messages=[{"role": "user", "content": "hi"}],
                    tools=[tool] if extra else openai.omit,
                    response_format=openai.omit if extra else schema_format(open_person),
                    **extra,
                )
                grammar = worker.engine.next(Generate).sampling.grammar
                assert ('"additionalProperties": false' in grammar) is closed
