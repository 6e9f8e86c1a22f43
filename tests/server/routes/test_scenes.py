"""What a model writes, as clients of the chat endpoint get it: whole, and as a stream."""

import json
from typing import Any

import pytest
from support.chat_deltas import joined
from support.contract import CHAT, CHATS, post
from support.scenes import SCENES, Scene


def request_of(scene: Scene) -> dict[str, Any]:
    body: dict[str, Any] = {**CHAT}
    if scene.max_tokens is not None:
        body["max_tokens"] = scene.max_tokens
    if scene.stops:
        body["stop"] = list(scene.stops)
    if scene.thinks is not None:
        body["enable_thinking"] = scene.thinks
    if scene.tools:
        body["tools"] = [{"type": "function", "function": tool} for tool in scene.tools]
        body["parallel_tool_calls"] = scene.is_parallel
        is_name = scene.choice not in ("auto", "required", "none")
        named = {"type": "function", "function": {"name": scene.choice}}
        body["tool_choice"] = named if is_name else scene.choice
    return body


def check(scene: Scene, message: dict[str, Any], ending: str) -> None:
    calls = [
        (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls", ())
    ]
    assert message.get("reasoning_content", "") == scene.reasoning
    assert (message.get("content") or "") == scene.content
    assert calls == list(scene.calls)
    assert ending == scene.ending


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scene_whole(native, scene):
    scene.play(native)
    response = post(native, CHATS, request_of(scene))
    if scene.ending == "failure":
        assert response.status_code == 500
        return
    [choice] = response.json()["choices"]
    check(scene, choice["message"], choice["finish_reason"])


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scene_streamed(native, scene):
    scene.play(native)
    response = post(native, CHATS, request_of(scene) | {"stream": True})
    if scene.ending == "failure" and not scene.text:
        assert response.status_code == 500
        return
    assert response.status_code == 200, response.text
    *events, rest = response.text.split("\n\n")
    assert rest == ""
    data = [event.removeprefix("data: ") for event in events]
    if scene.ending == "failure":
        assert "error" in json.loads(data.pop())
        ending = "failure"
    else:
        assert data.pop() == "[DONE]"
        ending = json.loads(data[-1])["choices"][0]["finish_reason"]
    check(scene, joined([json.loads(chunk)["choices"][0]["delta"] for chunk in data]), ending)
