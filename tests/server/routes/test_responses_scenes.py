"""What a model writes, as clients of the Responses endpoint get it: whole, and as a stream."""

import dataclasses
import json
from typing import Any

import pytest
from support import tiny
from support.contract import post
from support.responses_grammar import check_stream, read_events
from support.scenes import SCENES, Scene

PATH = "/v1/responses"


@pytest.fixture(scope="module")
def scene_worker(start_worker, served_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "scenes"
    model = dataclasses.replace(
        served_models[0],
        folder=tiny.make_chat_model(folder, template=tiny.TOOL_TEMPLATE),
        context_length=8192,
    )
    with start_worker([model], {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def stage(scene_worker):
    scene_worker.settle()
    return scene_worker


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


def play(stage, scene: Scene, **options: Any) -> dict[str, Any] | None:
    """The last response of the stream of a scene; None if the request fails at once."""
    scene.play(stage)
    response = post(stage, PATH, request_of(scene) | {"stream": True} | options)
    if scene.ending == "failure" and not scene.text:
        assert response.status_code == 500
        return None
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return check_stream(read_events(response.content))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scene_is_the_same_whole_and_streamed(stage, scene):
    streamed = play(stage, scene)
    if streamed is not None and scene.ending == "failure":
        assert streamed["error"]["code"] == "server_error"
        return
    stage.settle()
    scene.play(stage)
    response = post(stage, PATH, request_of(scene))
    if streamed is None:
        assert response.status_code == 500
        return
    check(scene, streamed)
    assert comparable(response.json()) == comparable(streamed)


@pytest.mark.parametrize(
    "scene", [scene for scene in SCENES if scene.reasoning], ids=lambda scene: scene.name
)
def test_scene_with_summaries(stage, scene):
    final = play(stage, scene, reasoning={"summary": "auto"})
    assert final is not None
    if scene.ending != "failure":
        check(scene, final, "summary")
