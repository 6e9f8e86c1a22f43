"""What clients of other projects have sent to `make test-clients`, sent once more."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from support import tiny
from support.chat_deltas import joined
from support.contract import IGNORED
from support.messages_grammar import MessageStream
from support.named_events import read_events
from support.notation_templates import FAMILIES
from support.responses_grammar import check_stream

RECORDED = Path(__file__).parents[2] / "clients" / "recorded"
RECORDS = [
    pytest.param(json.loads(line), id=f"{file.stem}-{number}")
    for file in sorted(RECORDED.glob("*.jsonl"))
    for number, line in enumerate(file.read_text().splitlines())
]
FORMATS = {"chat", "responses", "messages"}
FAMILY = FAMILIES["qwen2.5"]  # of the models that the clients talked to


@pytest.fixture(scope="module")
def client_worker(start_worker, served_models, tmp_path_factory):
    """A worker whose model has tools and a context for the prompt of an agent."""
    folder = tmp_path_factory.mktemp("models") / "agents"
    model = dataclasses.replace(
        served_models[0],
        folder=tiny.make_chat_model(folder, template=FAMILY.template),
        context_length=200_000,
    )
    with start_worker([model], {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.mark.parametrize("record", RECORDS)
def test_recorded_request_is_served(client_worker, record):
    client_worker.settle()
    call = last_call(record["body"])
    client_worker.engine.answer = written(call)
    body = record["body"] and record["body"] | {"model": "tiny-chat"}
    answer = httpx.request(
        record["method"],
        client_worker.url + record["path"],
        json=body,
        headers=record["headers"],
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers.get(IGNORED, "") == record["ignored"]
    if body and "model" in body:
        told = streamed(record["path"], answer) if body.get("stream") else answer.json()
        assert list(calls_of(told)) == ([call] if call else [])


def test_every_format_is_recorded():
    paths = {record.values[0]["path"] for record in RECORDS}
    assert {name for name in FORMATS for path in paths if f"/{name}" in path} == FORMATS


def test_records_are_impersonal():
    for file in RECORDED.glob("*.jsonl"):
        text = file.read_text()
        assert not [place for place in ("/tmp/", "/root/", "/Users/") if place in text], file


def last_call(body: Any) -> tuple[str, Any] | None:
    """The last call that the history of a request has: the model makes it again."""
    return next(reversed([*calls_of(body)]), None)


def calls_of(told: Any) -> Iterator[tuple[str, Any]]:
    """The names and arguments of all calls in a request or an answer of any format."""
    if isinstance(told, list):
        for item in told:
            yield from calls_of(item)
    elif isinstance(told, dict):
        kind = told.get("type")
        if "function" in told and "arguments" in told["function"]:
            yield told["function"]["name"], json.loads(told["function"]["arguments"])
        elif kind == "function_call":
            yield told["name"], json.loads(told["arguments"])
        elif kind == "tool_use":
            arguments = told["input"]  # of a stream: the text that its deltas add up to
            yield (
                told["name"],
                json.loads(arguments) if isinstance(arguments, str) else arguments,
            )
        else:
            for name in ("messages", "input", "output", "content", "choices", "message"):
                yield from calls_of(told.get(name))
            yield from calls_of(told.get("tool_calls"))


def written(call: tuple[str, Any] | None) -> str:
    if call is None:
        return "Hello!"
    function = json.dumps({"name": call[0], "arguments": call[1]})
    return f"I call it.\n<tool_call>\n{function}\n</tool_call>"


def streamed(path: str, answer: httpx.Response) -> dict[str, Any]:
    """The answer that a stream has told, once its events follow their grammar."""
    if "/responses" in path:
        return check_stream(read_events(answer.content))
    if "/messages" in path:
        return MessageStream().read(read_events(answer.content)).message
    return chat_message(answer.text)


def chat_message(text: str) -> dict[str, Any]:
    """The message of a chat stream."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    finishes = [choice["finish_reason"] for choice in choices]
    assert finishes[-1] in ("stop", "tool_calls") and set(finishes[:-1]) <= {None}
    return joined([choice["delta"] for choice in choices])
