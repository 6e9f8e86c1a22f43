"""A rule between fields: the check and the JSON schema accept the same bodies."""

import itertools
from typing import Any

import jsonschema
import pytest

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.body import Body
from mlxnode.server.formats.chat.messages import ContentPart, Message
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.chat.tools import NamedTool
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.formats.response_format import ResponseFormat
from mlxnode.server.reading.validation import validate

ABSENT = object()
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "m", "prompt": "x"}
FLAG = (ABSENT, None, False, True)
CONTRADICTION = "invalid_parameter_combination"


def bodies(base: dict[str, Any], fields: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Every combination of the fields' values over ``base``."""
    return [
        base | {name: v for name, v in zip(fields, values, strict=True) if v is not ABSENT}
        for values in itertools.product(*fields.values())
    ]


def is_valid(schema: type[Body], raw: dict[str, Any]) -> bool:
    try:
        validate(schema, raw)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize(
    ("schema", "base", "fields"),
    [
        (
            NamedTool,
            {"type": "function"},
            {"function": (ABSENT, None, {"name": "f"}), "name": (ABSENT, None, "f")},
        ),
        (
            ContentPart,
            {},
            {
                "type": ("text", "output_text", "refusal"),
                "text": (ABSENT, None, "a"),
                "content": (ABSENT, None, "a"),
            },
        ),
        (
            Message,
            {},
            {
                "role": ("user", "assistant", "tool"),
                "content": (ABSENT, None, "", []),
                "tool_call_id": (ABSENT, None, "1"),
            },
        ),
        (
            ResponseFormat,
            {},
            {
                "type": ("text", "json_object", "json_schema", "json", "regex", "grammar"),
                "json_schema": (ABSENT, None, {"schema": {}}, {"type": "null"}),
                "schema": (ABSENT, None, {"type": "null"}),
                "grammar": (ABSENT, None, "x"),
            },
        ),
        (
            CompletionBody,
            COMPLETION,
            {
                "best_of": (ABSENT, None, *range(1, 9)),
                "n": (ABSENT, None, *range(1, 9)),
                "stream": FLAG,
            },
        ),
    ],
)
def test_check_and_schema_agree(schema, base, fields):
    validator = jsonschema.Draft202012Validator(schema.model_json_schema())
    found = {True: 0, False: 0}
    for raw in bodies(base, fields):
        expected = is_valid(schema, raw)
        assert validator.is_valid(raw) == expected, raw
        found[expected] += 1
    assert all(found.values())


@pytest.mark.parametrize(
    ("schema", "fields", "param", "code", "message"),
    [
        (
            ChatBody,
            {"functions": [{"name": "f"}], "tools": [{"function": {"name": "f"}}]},
            "functions",
            CONTRADICTION,
            "Invalid 'functions': tools is set.",
        ),
        (
            ChatBody,
            {"function_call": {"name": "f"}},
            "function_call",
            CONTRADICTION,
            "Invalid 'function_call': functions is not set.",
        ),
        (
            ChatBody,
            {"tool_choice": "required", "tools": []},
            "tool_choice",
            CONTRADICTION,
            "Invalid 'tool_choice': tools is not set.",
        ),
        (
            ChatBody,
            {"continue_final_message": True, "add_generation_prompt": True},
            "add_generation_prompt",
            CONTRADICTION,
            "Invalid 'add_generation_prompt': continue_final_message is true.",
        ),
        (
            ChatBody,
            {"messages": [{"role": "user", "content": None}]},
            "messages[0].content",
            "missing_required_parameter",
            "Missing required parameter: 'messages[0].content'.",
        ),
        (
            ChatBody,
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "missing_required_parameter",
            "Missing required parameter: 'response_format.json_schema'.",
        ),
        (
            ChatBody,
            {"response_format": {"type": "text", "json_schema": {"name": "n", "schema": {}}}},
            "response_format.json_schema",
            CONTRADICTION,
            "Invalid 'response_format.json_schema': type is not json_schema.",
        ),
        (
            CompletionBody,
            {"best_of": 2, "n": 3, "stream": True},
            "best_of",
            "integer_below_min_value",
            "Invalid 'best_of': must be at least n.",
        ),
        (
            CompletionBody,
            {"best_of": 2, "stream": True},
            "best_of",
            CONTRADICTION,
            "Invalid 'best_of': the best answers cannot be streamed.",
        ),
        (
            CompletionBody,
            {"suffix": "x", "echo": True},
            "suffix",
            CONTRADICTION,
            "Invalid 'suffix': echo is true.",
        ),
    ],
)
def test_a_broken_rule_names_field_and_reason(schema, fields, param, code, message):
    with pytest.raises(InvalidRequest) as caught:
        validate(schema, (CHAT if schema is ChatBody else COMPLETION) | fields)
    error = caught.value
    assert (error.param, error.code, error.message) == (param, code, message)


def test_requested_tokens():
    def requested(schema, **fields):
        body, _ = validate(schema, (CHAT if schema is ChatBody else COMPLETION) | fields)
        return body.requested_tokens

    assert requested(ChatBody) is None and requested(CompletionBody) is None
    assert requested(ChatBody, max_tokens=3) == 3
    assert requested(ChatBody, max_completion_tokens=4) == 4
    assert requested(ChatBody, max_tokens=3, max_completion_tokens=4) == 3
    assert requested(ChatBody, max_tokens=5, max_completion_tokens=4) == 4
    assert requested(ChatBody, max_tokens=5, max_completion_tokens=-1) == 5
    assert requested(ChatBody, max_tokens=-1) is None
    assert requested(CompletionBody, max_tokens=0) == 0
