"""The packages of OpenAI and Anthropic for Node, where Node and the packages can be had."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.node_packages import SOURCE, install_packages

from mlxnode.messages.control import Limit, Reserved
from mlxnode.messages.data import Failed


@pytest.fixture(scope="session")
def node_project(tmp_path_factory) -> Path:
    """A folder with the packages installed; skips where that is not possible."""
    folder = tmp_path_factory.mktemp("node")
    install_packages(folder)
    for name in ("flows.mjs", "messages.mjs"):
        shutil.copy(SOURCE / name, folder)
    return folder


def run_flow(folder: Path, *arguments: str):
    done = subprocess.run(
        ["node", *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def run(node_project, worker):
    return lambda name: run_flow(
        node_project, "flows.mjs", f"{worker.url}/v1", worker.key, name
    )


@pytest.fixture
def run_messages(node_project, worker):
    return lambda name: run_flow(node_project, "messages.mjs", worker.url, worker.key, name)


def test_node_models(run):
    models = ["tiny-chat", "org/tiny-text", "tiny-embedding"]
    assert run("models") == {"listed": models, "one": "org/tiny-text"}


def test_node_chat(run):
    answer = run("chat")
    assert answer["content"] == "Hello!"
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["headers"]["x-ratelimit-limit-requests"] == "60"


def test_node_stream(run):
    answer = run("stream")
    assert answer["content"] == "Hello!" and answer["usage"]["completion_tokens"] == 7


def test_node_tools_make_a_round_trip(run, worker):
    worker.engine.answer = '<tool_call>{"name": "f", "arguments": {"city": "Bern"}}</tool_call>'
    answer = run("tools")
    assert answer["call"] == {"name": "f", "arguments": '{"city": "Bern"}'}
    assert (answer["finish"], answer["next"]) == ("tool_calls", "tool_calls")


def test_node_embeddings_with_the_default_encoding(run, worker):
    ids = [[1.0, *worker.engine.ids("a")], [2.0, *worker.engine.ids("bc")]]
    assert run("embeddings") == [(row + [0] * 8)[:8] for row in ids]


def test_node_errors_are_typed(run):
    caught = run("errors")
    assert all(error["requestID"].startswith("req_") for error in caught.values())
    facts = {name: (e["kind"], e["status"], e["code"]) for name, e in caught.items()}
    assert facts == {
        "badRequest": ("BadRequestError", 400, "decimal_above_max_value"),
        "notFound": ("NotFoundError", 404, "model_not_found"),
        "unauthorized": ("AuthenticationError", 401, "invalid_api_key"),
    }
    assert caught["badRequest"]["param"] == "temperature"


def test_node_retries_when_it_was_told_to(run, worker):
    limits = Limit(60, 0, 30.0), Limit(100_000, 100_000, 0.0)
    worker.refuse, worker.num_refusals = Reserved(0, "requests", 0.3, *limits), 1
    answer = run("retry")
    assert answer["content"] == "Hello!" and answer["waited"] >= 300


def test_node_broken_stream_is_an_error(run, worker):
    def break_off(message) -> None:
        worker.engine.update(message.uid, "abc")
        worker.engine.send(Failed(message.uid, "internal", "broken"))

    worker.engine.on_generate = break_off
    assert run("brokenStream") == {"content": "abc", "kind": "APIError", "type": "server_error"}


# --- Anthropic's package ----------------------------------------------------------------------


def test_node_messages_models(run_messages):
    models = ["tiny-chat", "org/tiny-text", "tiny-embedding"]
    assert run_messages("models") == {
        "listed": models,
        "one": "org/tiny-text",
        "created": "2023-11-14T22:13:20Z",
    }


def test_node_messages_create(run_messages):
    answer = run_messages("create")
    assert answer["content"] == [{"type": "text", "text": "Hello!"}]
    assert answer["reason"] == "end_turn" and answer["usage"]["output_tokens"] == 7
    assert answer["headers"]["anthropic-ratelimit-requests-limit"] == "60"


def test_node_messages_stream(run_messages):
    answer = run_messages("stream")
    assert answer["text"] == answer["final"] == "Hello!"
    assert answer["usage"]["output_tokens"] == 7 and answer["id"].startswith("req_")


def test_node_messages_raw_stream(run_messages):
    kinds = run_messages("rawStream")
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]


def test_node_messages_tools_make_a_round_trip(run_messages, worker):
    worker.engine.answer = '<tool_call>{"name": "f", "arguments": {"city": "Bern"}}</tool_call>'
    answer = run_messages("tools")
    assert (answer["reason"], answer["name"]) == ("tool_use", "f")
    assert answer["input"] == {"city": "Bern"} and answer["next"][0]["type"] == "tool_use"


def test_node_messages_count(run_messages):
    assert run_messages("count")["input_tokens"] > 0


def test_node_messages_errors_are_typed(run_messages):
    caught = run_messages("errors")
    facts = {name: (e["kind"], e["status"], e["type"]) for name, e in caught.items()}
    assert facts == {
        "badRequest": ("BadRequestError", 400, "invalid_request_error"),
        "badStream": ("BadRequestError", 400, "invalid_request_error"),
        "notFound": ("NotFoundError", 404, "not_found_error"),
        "noModel": ("NotFoundError", 404, "not_found_error"),
        "unauthorized": ("AuthenticationError", 401, "authentication_error"),
    }
    assert all(error["requestID"].startswith("req_") for error in caught.values())


def test_node_messages_broken_stream_is_an_error(run_messages, worker):
    def break_off(message) -> None:
        worker.engine.update(message.uid, "abc")
        worker.engine.send(Failed(message.uid, "internal", "broken"))

    worker.engine.on_generate = break_off
    answer = run_messages("brokenStream")
    assert (answer["text"], answer["type"]) == ("abc", "api_error")
    assert "broken" in answer["message"]
