"""The table of errors, row by row over HTTP."""

import json

import httpx2 as httpx
import pytest
from support.contract import (
    CHAT,
    CHATS,
    EMBEDDING,
    ENDPOINTS,
    TEXTS,
    VECTORS,
    error_of,
    post,
)

TOOL = {"type": "function", "function": {"name": "a"}}
BAD_TOOL = {"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}
ANY_TOOL = {"tools": [TOOL], "tool_choice": "any"}
NOT_JSON = {
    "empty": b"",
    "cut": b'{"model": ',
    "array": b"[]",
    "null": b"null",
    "NaN": b'{"temperature": NaN}',
    "infinity": b'{"temperature": 1e999}',
    "duplicate key": b'{"model": "a", "model": "b"}',
    "too deep": b'{"model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not UTF-8": b'{"model": "\xff"}',
    "UTF-16": '{"model": "a"}'.encode("utf-16"),
}


# --- the table of errors ------------------------------------------------------------


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_body_that_is_no_json_object(worker, path, body):
    response = post(worker, path, body)
    error = error_of(response)
    assert response.status_code == 400
    facts = (error["type"], error["param"], error["code"])
    assert facts == ("invalid_request_error", None, None)


@pytest.mark.parametrize(
    ("path", "change", "param", "code", "told"),
    [
        (CHATS, {"model": ...}, "model", "missing_required_parameter", ""),
        (CHATS, {"messages": ...}, "messages", "missing_required_parameter", ""),
        (
            CHATS,
            {"messages": [{"role": "user", "content": 7}]},
            "messages[0].content",
            "invalid_type",
            "an integer",
        ),
        (
            CHATS,
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
            "unsupported_value",
            "input_audio",
        ),
        (
            CHATS,
            {"messages": [{"role": "assistant", "audio": {"id": "x"}}]},
            "messages[0].audio",
            "unsupported_parameter",
            "audio",
        ),
        (
            CHATS,
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
            "messages[0].tool_calls[0].function",
            "missing_required_parameter",
            "",
        ),
        (CHATS, {"tools": [{"type": "custom"}]}, "tools[0].type", "unsupported_value", ""),
        (
            CHATS,
            {"tools": [{"type": "function", "function": {"name": "a" * 257}}]},
            "tools[0].function.name",
            "string_above_max_length",
            "256",
        ),
        (CHATS, {"tools": [TOOL] * 129}, "tools", "array_above_max_length", "128"),
        (
            CHATS,
            {"tool_choice": "required"},
            "tool_choice",
            "invalid_parameter_combination",
            "tools is not set",
        ),
        (
            CHATS,
            ANY_TOOL,
            "tool_choice",
            "unsupported_value",
            "",
        ),
        (
            CHATS,
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "b"}}},
            "tool_choice",
            "unsupported_value",
            'no tool has the name "b"',
        ),
        (
            CHATS,
            {"tools": [BAD_TOOL], "tool_choice": "required"},
            "tools[0].function.parameters",
            "invalid_grammar",
            "object",
        ),
        (CHATS, {"reasoning_effort": "some"}, "reasoning_effort", "unsupported_value", "some"),
        (
            CHATS,
            {"chat_template_kwargs": {"messages": 1}},
            "chat_template_kwargs.messages",
            "unsupported_value",
            "enable_thinking",
        ),
        (
            CHATS,
            {"chat_template_kwargs": {"x": "y" * 16_000}},
            "chat_template_kwargs",
            "object_above_max_size",
            "16000",
        ),
        (CHATS, {"thinking": {"type": "on"}}, "thinking.type", "unsupported_value", "on"),
        (
            CHATS,
            {"continue_final_message": True},
            "continue_final_message",
            "invalid_parameter_combination",
            "assistant",
        ),
        (
            CHATS,
            {"continue_final_message": True, "add_generation_prompt": True},
            "add_generation_prompt",
            "invalid_parameter_combination",
            "",
        ),
        (TEXTS, {"suffix": "x"}, "suffix", "unsupported_parameter", "org/tiny-text"),
        (
            TEXTS,
            {"suffix": "x", "echo": True},
            "suffix",
            "invalid_parameter_combination",
            "echo",
        ),
        (CHATS, {"temperature": 200}, "temperature", "decimal_above_max_value", "200"),
        (CHATS, {"top_p": -1}, "top_p", "decimal_below_min_value", "-1"),
        (CHATS, {"max_tokens": 0}, "max_tokens", "integer_below_min_value", "0"),
        (CHATS, {"seed": 2**63}, "seed", "integer_above_max_value", "2233"),
        (CHATS, {"seed": -(2**63) - 1}, "seed", "integer_below_min_value", "2233"),
        (CHATS, {"top_k": 2**31}, "top_k", "integer_above_max_value", "2147483647"),
        (CHATS, {"min_tokens": 10**30}, "min_tokens", "integer_above_max_value", ""),
        (
            CHATS,
            {"stop_token_ids": [2**31]},
            "stop_token_ids[0]",
            "integer_above_max_value",
            "",
        ),
        (CHATS, {"seed": 10**4000}, "seed", "integer_above_max_value", ""),
        (CHATS, {"stop": ["a"] * 65}, "stop", "array_above_max_length", "64 item(s), got 65"),
        (CHATS, {"n_predict": -5}, "n_predict", "integer_below_min_value", ">= 1, got -5"),
        (CHATS, {"best_of": 2}, "best_of", "unsupported_parameter", "Only 1"),
        (
            CHATS,
            {"functions": [{"name": "f"}], "function_call": {"name": "g"}},
            "function_call",
            "unsupported_value",
            'no tool has the name "g"',
        ),
        (CHATS, {"audio": {"voice": "a"}}, "audio", "unsupported_parameter", ""),
        (
            CHATS,
            {"messages": [{"role": "user", "content": "x" * 1100}]},
            "messages",
            "context_length_exceeded",
            "1024",
        ),
        (TEXTS, {"prompt": ...}, "prompt", "missing_required_parameter", ""),
        (TEXTS, {"prompt": "x" * 1100}, "prompt", "context_length_exceeded", "1024"),
        (VECTORS, {"input": ...}, "input", "missing_required_parameter", ""),
        (VECTORS, {"input": ""}, "input", "string_below_min_length", ""),
        (VECTORS, {"input": ["a", ""]}, "input[1]", "string_below_min_length", ""),
        (VECTORS, {"input": []}, "input", "array_below_min_length", ""),
        (VECTORS, {"input": [[]]}, "input[0]", "array_below_min_length", ""),
        (VECTORS, {"input": ["a"] * 2049}, "input", "array_above_max_length", "2048"),
        (
            VECTORS,
            {"input": ["a", "x" * 65]},
            "input[1]",
            "context_length_exceeded",
            "64 tokens, got 65",
        ),
        (VECTORS, {"dimensions": 5}, "dimensions", "unsupported_value", "4, 8, got 5"),
        (VECTORS, {"encoding_format": "int8"}, "encoding_format", "unsupported_value", ""),
    ],
)
def test_request_that_is_wrong(worker, path, change, param, code, told):
    body = {k: v for k, v in (ENDPOINTS[path][1] | change).items() if v is not ...}
    response = post(worker, path, body)
    error = error_of(response)
    assert response.status_code == 400
    facts = (error["type"], error["param"], error["code"])
    assert facts == ("invalid_request_error", param, code)
    assert told in error["message"]
    assert worker.engine.received.empty()


@pytest.mark.parametrize(
    ("path", "model", "status", "code"),
    [
        (CHATS, "gpt-4o", 404, "model_not_found"),
        (TEXTS, "gpt-4o", 404, "model_not_found"),
        (VECTORS, "gpt-4o", 404, "model_not_found"),
        (CHATS, "tiny-embedding", 400, "model_not_supported"),
        (TEXTS, "tiny-embedding", 400, "model_not_supported"),
        (VECTORS, "tiny-chat", 400, "model_not_supported"),
    ],
)
def test_model_that_is_not_for_this(worker, path, model, status, code):
    response = post(worker, path, ENDPOINTS[path][1] | {"model": model})
    error = error_of(response)
    assert response.status_code == status
    assert (error["param"], error["code"]) == ("model", code)
    if status == 400:
        assert "use it at /v1/" in error["message"]


@pytest.mark.parametrize(
    "change", [{"model": "m" * 100_000}, {"encoding_format": "f" * 100_000}]
)
def test_errors_do_not_repeat_a_long_value(worker, change):
    response = post(worker, VECTORS, EMBEDDING | change)
    message = error_of(response)["message"]
    assert len(message) <= 1000


@pytest.mark.parametrize("stream", [False, True])
def test_no_engine_is_503_before_a_stream_too(worker, stream):
    worker.engine.disconnect()
    try:
        while httpx.get(f"{worker.url}/health").status_code == 200:
            pass  # until the end of the pipe has been seen
        response = post(worker, CHATS, CHAT | {"stream": stream})
    finally:
        worker.connect_engine()
    error = error_of(response)
    assert response.status_code == 503 and int(response.headers["retry-after"]) > 0
    assert (error["type"], error["code"]) == (
        "service_unavailable_error",
        "server_is_overloaded",
    )


def test_engine_that_dies_within_a_stream_ends_it_with_an_error(worker):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")
    body = CHAT | {"stream": True}
    url = f"{worker.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=worker.headers) as response:
        lines = response.iter_lines()
        while "abc" not in next(lines):
            pass
        worker.connect_engine()
        *_, last = [line for line in lines if line]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "server_error"


# --- fields that nobody documents ---------------------------------------------------

MOODY = CHAT | {"messages": [{"role": "user", "content": "hi", "mood": 1}]}
STRANGE = {"mirostat": 2} | MOODY


def test_unknown_fields_are_named_at_any_depth(worker):
    response = post(worker, CHATS, STRANGE)
    assert response.status_code == 200
    assert response.headers["x-mlxnode-ignored"] == "mirostat, messages[0].mood"


@pytest.fixture(scope="module")
def strict_worker(start_worker, served_models):
    server = {"strict_fields": True, "max_embedding_tokens": 100}
    with start_worker(served_models, {}, server) as worker:
        worker.connect_engine()
        yield worker


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (STRANGE, "mirostat"),
        (MOODY, "messages[0].mood"),
    ],
)
def test_strict_fields_refuses_unknown_ones(strict_worker, body, param):
    response = post(strict_worker, CHATS, body)
    assert response.status_code == 400
    assert error_of(response) == {
        "message": f"Unrecognized request argument supplied: {param}",
        "type": "invalid_request_error",
        "param": param,
        "code": "unknown_parameter",
    }


def test_strict_fields_takes_documented_ones(strict_worker):
    body = CHAT | {"n": 1, "metadata": {"a": "b"}, "tools": [], "logprobs": None}
    response = post(strict_worker, CHATS, body)
    assert response.status_code == 200 and "x-mlxnode-ignored" not in response.headers


@pytest.mark.parametrize(("texts", "status"), [(["x" * 50] * 2, 200), (["x" * 51] * 2, 400)])
def test_embeddings_have_a_total(strict_worker, texts, status):
    response = post(strict_worker, VECTORS, EMBEDDING | {"input": texts})
    assert response.status_code == status
    if status == 400:
        error = error_of(response)
        assert (error["param"], error["code"]) == ("input", "max_tokens_per_request")
        assert "102 tokens or more, max 100" in error["message"]
