"""What a model writes, as clients of Anthropic's API get it: whole, and as a stream."""

import json
from typing import Any

import pytest
from support.contract import accepted, post
from support.messages_grammar import MessageStream
from support.messages_requests import MESSAGES
from support.named_events import read_events
from support.scenes import SCENES, Scene

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def request_of(scene: Scene) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": "tiny-chat",
        "max_tokens": scene.max_tokens or 4000,
        "messages": [{"role": "user", "content": "hi"}],
    }
    if scene.stops:
        body["stop_sequences"] = list(scene.stops)
    if scene.thinks is not None:
        body["thinking"] = {"type": "enabled" if scene.thinks else "disabled"}
    if scene.tools:
        body["tools"] = [
            {"input_schema": tool["parameters"]}
            | {name: tool[name] for name in ("name", "description") if name in tool}
            for tool in scene.tools
        ]
        choices = {"auto": {"type": "auto"}, "required": {"type": "any"}}
        choices["none"] = {"type": "none"}
        choice = choices.get(scene.choice, {"type": "tool", "name": scene.choice})
        if scene.choice != "none":
            choice["disable_parallel_tool_use"] = not scene.is_parallel
        body["tool_choice"] = choice
    return body


def check(scene: Scene, message: dict[str, Any]) -> None:
    blocks = message["content"]
    texts = {
        type: "".join(block[type] for block in blocks if block["type"] == type)
        for type in ("text", "thinking")
    }
    assert texts == {"text": scene.content, "thinking": scene.reasoning}
    calls = [block for block in blocks if block["type"] == "tool_use"]
    assert [(call["name"], call["input"]) for call in calls] == list(scene.calls)
    expected = "stop_sequence" if scene.stop is not None else _REASONS[scene.ending]
    assert message["stop_reason"] == expected
    assert message["stop_sequence"] == scene.stop


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in message.items() if name not in ("id", "content")}
    kept["content"] = [
        {name: value for name, value in block.items() if name != "id"}
        for block in message["content"]
    ]
    return kept


def whole(native, scene: Scene) -> dict[str, Any]:
    return accepted(native, MESSAGES, request_of(scene)).json()


def streamed(native, scene: Scene) -> MessageStream:
    response = accepted(native, MESSAGES, request_of(scene) | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    stream = MessageStream().read(read_events(response.content))
    for block in stream.message["content"]:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["input"])
    return stream


@pytest.mark.parametrize(
    "scene", [s for s in SCENES if s.ending != "failure"], ids=lambda scene: scene.name
)
def test_scene_streamed_is_the_scene_whole(native, scene):
    scene.play(native)
    told = streamed(native, scene)
    assert told.error is None
    check(scene, told.message)
    assert without_ids(told.message) == without_ids(whole(native, scene))


@pytest.mark.parametrize(
    "scene", [s for s in SCENES if s.ending == "failure"], ids=lambda scene: scene.name
)
def test_scene_that_fails_ends_with_the_error(native, scene):
    scene.play(native)
    response = post(native, MESSAGES, request_of(scene))
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "api_error"
    response = post(native, MESSAGES, request_of(scene) | {"stream": True})
    if not scene.text:
        assert response.status_code == 500
        return
    stream = MessageStream().read(read_events(response.content))
    assert stream.error["type"] == "api_error"
    texts = [block.get("text", "") for block in stream.message["content"]]
    assert "".join(texts) == scene.content


def test_scenes_are_many():
    assert len(SCENES) >= 60
