from typing import get_type_hints

import pytest
from openai.types import chat
from openai.types import completion_create_params as completion_params
from openai.types import embedding_create_params as embedding_params
from openai.types.chat import completion_create_params as chat_params

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.history import to_messages
from mlxnode.server.formats.chat.messages import ContentPart, Message, ToolCall
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.formats.embeddings.schema import EmbeddingBody
from mlxnode.server.formats.generation import StreamOptions
from mlxnode.server.reading.validation import validate

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refuse(schema, **fields) -> InvalidRequest:
    base = CHAT if schema is ChatBody else {"model": "m"}
    with pytest.raises(InvalidRequest) as caught:
        validate(schema, base | fields)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": "x"}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "array_below_min_length"),
        ({"messages": [3]}, "messages[0]", "invalid_type"),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "missing_required_parameter"),
        (
            {"messages": [{"role": "user"}]},
            "messages[0].content",
            "missing_required_parameter",
        ),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "invalid_type"),
        (
            {"messages": [{"role": "robot", "content": "a"}]},
            "messages[0].role",
            "unsupported_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "unsupported_value",
        ),
        ({"temperature": 200}, "temperature", "decimal_above_max_value"),
        ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": "200"}, "temperature", "decimal_above_max_value"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"logprobs": 21}, "logprobs", "integer_above_max_value"),
        ({"logprobs": "0"}, "logprobs", "integer_below_min_value"),
        ({"logprobs": 1.5}, "logprobs", "invalid_type"),
        ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"seed": 2**63}, "seed", "integer_above_max_value"),
        ({"stop": ["a"] * 65}, "stop", "array_above_max_length"),
        ({"stop": ["a", 1]}, "stop[1]", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        (
            {"stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "invalid_type",
        ),
        ({"model": None}, "model", "invalid_type"),
    ],
)
def test_validate_names_path_and_code(fields, param, code):
    error = refuse(ChatBody, **fields)
    assert (error.param, error.code, error.status) == (param, code, 400)
    assert param in error.message


def test_validate_tells_limit_and_value():
    assert "<= 2.0, got 200" in refuse(ChatBody, temperature=200).message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audio", {"voice": "alloy"}),
        ("modalities", ["text", "audio"]),
        ("web_search_options", {}),
        ("best_of", 2),
        ("echo", True),
        ("suffix", "x"),
        ("moderation", {}),
    ],
)
def test_validate_refuses_what_would_change_the_answer(name, value):
    error = refuse(ChatBody, **{name: value})
    assert (error.param, error.code) == (name, "unsupported_parameter")


def test_validate_ends_at_the_first_invalid_item():
    assert refuse(ChatBody, messages=[3] * 9999).param == "messages[0]"
    assert refuse(ChatBody, messages=CHAT["messages"] * 10_001).code == "array_above_max_length"


def test_validate_takes_documented_parameters_at_their_neutral_value():
    neutral = {
        "n": 1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0,
        "logit_bias": {},
        "logprobs": False,
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": "auto",
        "store": False,
        "service_tier": "auto",
        "metadata": {"a": "b"},
        "user": "me",
        "modalities": ["text"],
    }
    assert validate(ChatBody, CHAT | neutral)[1] == []


def test_validate_takes_null_for_unset():
    optional = set(ChatBody.model_fields) - {"model", "messages"} | set(ChatBody.neutral)
    body, unknown = validate(ChatBody, CHAT | dict.fromkeys(optional))
    assert unknown == []
    assert body == validate(ChatBody, CHAT)[0]


def test_validate_names_unknown_fields():
    assert validate(ChatBody, CHAT | {"mirostat": 2})[1] == ["mirostat"]
    part = {"type": "text", "text": "a", "x": 1}
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": [part], "y": 2}]
    assert validate(ChatBody, CHAT | {"messages": messages})[1] == [
        "messages[1].content[0].x",
        "messages[1].y",
    ]


@pytest.mark.parametrize(
    ("schema", "documented"),
    [
        (ChatBody, chat_params.CompletionCreateParamsStreaming),
        (CompletionBody, completion_params.CompletionCreateParamsStreaming),
        (EmbeddingBody, embedding_params.EmbeddingCreateParams),
        (Message, chat.ChatCompletionSystemMessageParam),
        (Message, chat.ChatCompletionUserMessageParam),
        (Message, chat.ChatCompletionAssistantMessageParam),
        (Message, chat.ChatCompletionToolMessageParam),
        (ContentPart, chat.ChatCompletionContentPartTextParam),
        (StreamOptions, chat.ChatCompletionStreamOptionsParam),
        (ToolCall, chat.ChatCompletionMessageFunctionToolCallParam),
    ],
)
def test_every_parameter_that_the_sdk_documents_is_known(schema, documented):
    known = {field.alias or name for name, field in schema.model_fields.items()}
    assert set(get_type_hints(documented)) <= {*known, *schema.neutral, *schema.harmless}


@pytest.mark.parametrize(
    ("value", "path", "code"),
    [
        ([], "", "array_below_min_length"),
        ([[]], "[0]", "array_below_min_length"),
        ([[1], []], "[1]", "array_below_min_length"),
        (["a", 3], "[1]", "invalid_type"),
        ([1, -2], "[1]", "integer_below_min_value"),
        ([[1], ["a"]], "[1][0]", "invalid_type"),
        ([1.5], "[0]", "invalid_type"),
        ({}, "", "invalid_type"),
        (None, "", "invalid_type"),
        ([None], "[0]", "invalid_type"),
        (["a"] * 2049, "", "array_above_max_length"),
    ],
)
@pytest.mark.parametrize(
    ("schema", "name"), [(CompletionBody, "prompt"), (EmbeddingBody, "input")]
)
def test_validate_inputs(schema, name, value, path, code):
    error = refuse(schema, **{name: value})
    assert (error.param, error.code) == (name + path, code)


def test_message_joins_parts_and_parses_arguments():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
    ]
    body, _ = validate(ChatBody, {"model": "m", "messages": messages})
    user, assistant, tool = to_messages(body.messages)
    assert user == {"role": "user", "content": "ab"}
    assert assistant["content"] == ""
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"x": 1}
    assert tool == {"role": "tool", "tool_call_id": "1", "name": "f", "content": "2"}
