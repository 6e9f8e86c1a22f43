"""More tokens requested than the context has room for: the answer gets those that fit."""

import httpx2 as httpx
import pytest

from mlxnode.messages.data import Generate

HEADER = "x-mlxnode-max-tokens"
CONTEXT = 1024
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "org/tiny-text", "prompt": "x" * 1000}
NUM_PROMPT = {"chat/completions": 21, "completions": 1000}
BODIES = {"chat/completions": CHAT, "completions": TEXT}


def ask(worker, path: str, **body) -> httpx.Response:
    url = f"{worker.url}/v1/{path}"
    headers = worker.headers | {"origin": worker.origin}
    response = httpx.post(url, json=BODIES[path] | body, headers=headers)
    assert response.status_code == 200, response.text
    return response


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("requested", [1004, 32_000, 2**31 - 1])
def test_clamping_gives_the_room_and_says_so(worker, path, requested, stream):
    worker.engine.answer = "y" * 2000
    response = ask(worker, path, max_tokens=requested, stream=stream)
    room = CONTEXT - NUM_PROMPT[path]
    assert worker.engine.next(Generate).max_tokens == room
    assert response.headers[HEADER] == str(room)
    assert HEADER in response.headers["access-control-expose-headers"]
    assert '"finish_reason":"length"' in response.text
    assert worker.reserved.get(timeout=10).expected == room


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", [{}, {"max_tokens": 5}])
def test_clamping_is_not_told_where_nothing_is_clamped(worker, path, body):
    assert HEADER not in ask(worker, path, **body).headers
    room = CONTEXT - NUM_PROMPT[path]
    default = 16 if path == "completions" else room
    assert worker.engine.next(Generate).max_tokens == body.get("max_tokens", default)


def test_clamping_leaves_room_for_the_last_token(worker):
    text = "x" * (CONTEXT - 1)
    assert ask(worker, "completions", prompt=text, max_tokens=1).headers.get(HEADER) is None
    assert ask(worker, "completions", prompt=text, max_tokens=2).headers[HEADER] == "1"


def test_clamping_of_several_prompts_names_the_shortest_answer(worker):
    prompts = ["x" * 1000, "x" * 900, "x"]
    response = ask(worker, "completions", prompt=prompts, max_tokens=50)
    assert response.headers[HEADER] == "24"
    assert [worker.engine.next(Generate).max_tokens for _ in prompts] == [24, 50, 50]


def test_clamping_ends_a_minimum_of_tokens_too(worker):
    response = ask(worker, "completions", max_tokens=900, min_tokens=500)
    message = worker.engine.next(Generate)
    assert (message.max_tokens, message.sampling.min_tokens) == (24, 500)
    assert response.headers[HEADER] == "24"
