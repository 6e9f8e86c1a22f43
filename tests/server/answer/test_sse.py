"""Server-sent events, byte by byte and through the SDK."""

import json
import threading

import httpx2 as httpx
import openai
import pytest

from mlxnode.messages.data import Failed, Generate

ASK = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def raw_events(worker, path: str, **body) -> list[str]:
    response = httpx.post(f"{worker.url}/v1/{path}", json=body, headers=worker.headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, rest = response.text.split("\n\n")
    assert rest == "" and all(event.startswith("data: ") for event in events)
    return [event.removeprefix("data: ") for event in events]


def test_stream_chat_shape(worker):
    *events, done = raw_events(worker, "chat/completions", **ASK)
    assert done == "[DONE]"
    first, *middle, last = map(json.loads, events)
    assert first["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "", "refusal": None},
            "finish_reason": None,
            "logprobs": None,
        }
    ]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in middle) == "Hello!"
    assert last["choices"][0] == {
        "index": 0,
        "delta": {},
        "finish_reason": "stop",
        "logprobs": None,
    }
    shared = {(c["id"], c["created"], c["model"], c["object"]) for c in (first, *middle, last)}
    assert len(shared) == 1
    assert all("usage" not in chunk for chunk in (first, *middle, last))


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("chat/completions", ASK),
        ("completions", {"model": "org/tiny-text", "prompt": "x", "stream": True}),
    ],
)
def test_stream_usage_comes_last_and_only_when_asked(worker, path, ask):
    *events, done = raw_events(worker, path, **ask, stream_options={"include_usage": True})
    assert done == "[DONE]"
    *chunks, last = map(json.loads, events)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 7
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 7


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_stream_never_splits_a_character(worker, step):
    worker.engine.answer = "日本 👨‍👩‍👧 é"
    worker.engine.step = step
    stream = worker.client().chat.completions.create(**ASK)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == "日本 👨‍👩‍👧 é"
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_stream_stop_string_never_leaks(worker, step):
    worker.engine.answer = "count: one STOP two"
    worker.engine.step = step
    *events, _ = raw_events(worker, "chat/completions", **ASK, stop=[" STOP"])
    choices = [json.loads(event)["choices"][0] for event in events]
    assert "".join(c["delta"].get("content", "") for c in choices) == "count: one"
    assert choices[-1]["finish_reason"] == "stop"


def test_stream_several_prompts_by_index(worker):
    def answer_by_length(message: Generate) -> None:
        for letter in "ab":
            worker.engine.update(message.uid, f"{letter}{len(message.prompt)}")
        worker.engine.update(message.uid, [], "length")

    worker.engine.on_generate = answer_by_length
    stream = worker.client().completions.create(
        model="org/tiny-text", prompt=["x", "yy"], stream=True
    )
    texts, finishes = ["", ""], [None, None]
    for chunk in stream:
        [choice] = chunk.choices
        texts[choice.index] += choice.text
        finishes[choice.index] = choice.finish_reason or finishes[choice.index]
    assert texts == ["a1b1", "a2b2"] and finishes == ["length", "length"]


def test_stream_sends_each_token_as_it_comes(worker):
    seen = [threading.Event() for _ in range(3)]

    def lockstep(message: Generate) -> None:
        def run() -> None:
            for letter, event in zip("abc", seen, strict=True):
                worker.engine.update(message.uid, letter)
                assert event.wait(10)
            worker.engine.update(message.uid, [], "stop")

        threading.Thread(target=run, daemon=True).start()

    worker.engine.on_generate = lockstep
    text = ""
    for chunk in worker.client().chat.completions.create(**ASK):
        text += chunk.choices[0].delta.content or ""
        for event in seen[: len(text)]:
            event.set()
    assert text == "abc"


@pytest.mark.parametrize("reason", ["internal", "overloaded"])
def test_stream_engine_failure_after_the_first_token_is_an_event(worker, reason):
    def fail(message: Generate) -> None:
        worker.engine.update(message.uid, "some")
        worker.engine.send(Failed(message.uid, reason, "the step failed"))

    worker.engine.on_generate = fail
    *_, last = raw_events(worker, "chat/completions", **ASK)
    error = json.loads(last)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "server_error" and "the step failed" in error["message"]
    with pytest.raises(openai.APIError, match="the step failed"):
        list(worker.client().chat.completions.create(**ASK))


def test_stream_engine_gone_after_the_first_token_is_an_event(worker):
    def vanish(message: Generate) -> None:
        worker.engine.update(message.uid, "some")
        left.wait(10)
        worker.engine.disconnect()

    left = threading.Event()
    worker.engine.on_generate = vanish
    try:
        text = ""
        with pytest.raises(openai.APIError, match="engine stopped"):
            for chunk in worker.client().chat.completions.create(**ASK):
                text += chunk.choices[0].delta.content or ""
                if text:
                    left.set()
        assert text == "some"
    finally:
        worker.engine.reset()
        worker.connect_engine()
    assert worker.client().completions.create(model="tiny-chat", prompt="x").choices
