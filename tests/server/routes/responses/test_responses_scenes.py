"""What a model writes, as clients of the Responses endpoint get it: whole, and as a stream."""

import json
from typing import Any

import pytest
from support.contract import post
from support.named_events import read_events
from support.responses_grammar import check_stream
from support.responses_requests import PATH
from support.scenes import SCENES, Scene


def request_of(scene: Scene) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "tiny-chat", "input": "hi"}
    if scene.max_tokens is not None:
        body["max_output_tokens"] = scene.max_tokens
    if scene.stops:
        body["stop"] = list(scene.stops)
    if scene.thinks is not None:
        body["enable_thinking"] = scene.thinks
    if scene.tools:
        body["tools"] = [{"type": "function", **tool} for tool in scene.tools]
        body["parallel_tool_calls"] = scene.is_parallel
        is_name = scene.choice not in ("auto", "required", "none")
        named = {"type": "function", "name": scene.choice}
        body["tool_choice"] = named if is_name else scene.choice
    return body


def texts(response: dict[str, Any], kind: str, place: str) -> str:
    items = [item for item in response["output"] if item["type"] == kind]
    return "".join(part["text"] for item in items for part in item.get(place, ()))


def check(scene: Scene, response: dict[str, Any], thoughts: str = "content") -> None:
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    assert texts(response, "reasoning", thoughts) == scene.reasoning
    assert texts(response, "message", "content") == scene.content
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == list(
        scene.calls
    )
    statuses = {"length": "incomplete", "failure": "failed"}
    assert response["status"] == statuses.get(scene.ending, "completed")
    assert len({call["call_id"] for call in calls}) == len(calls)


def comparable(response: dict[str, Any]) -> dict[str, Any]:
    """The answer without what differs between two answers to the same request."""
    ids = [response["id"].removeprefix("resp_")]
    ids += [item["call_id"] for item in response["output"] if "call_id" in item]
    text = json.dumps(response | {"created_at": 0, "completed_at": 0})
    for number, id in enumerate(ids):
        text = text.replace(id, f"id{number}")
    return json.loads(text)


def play(native, scene: Scene, **options: Any) -> dict[str, Any] | None:
    """The last response of the stream of a scene; None if the request fails at once."""
    scene.play(native)
    response = post(native, PATH, request_of(scene) | {"stream": True} | options)
    if scene.ending == "failure" and not scene.text:
        assert response.status_code == 500
        return None
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return check_stream(read_events(response.content))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scene_is_the_same_whole_and_streamed(native, scene):
    streamed = play(native, scene)
    if streamed is not None and scene.ending == "failure":
        assert streamed["error"]["code"] == "server_error"
        return
    native.settle()
    scene.play(native)
    response = post(native, PATH, request_of(scene))
    if streamed is None:
        assert response.status_code == 500
        return
    check(scene, streamed)
    assert comparable(response.json()) == comparable(streamed)


@pytest.mark.parametrize(
    "scene", [scene for scene in SCENES if scene.reasoning], ids=lambda scene: scene.name
)
def test_scene_with_summaries(native, scene):
    final = play(native, scene, reasoning={"summary": "auto"})
    assert final is not None
    if scene.ending != "failure":
        check(scene, final, "summary")
