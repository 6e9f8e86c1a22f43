"""The header by which a balancer keeps a conversation at its node."""

import re

import httpx2 as httpx
import pytest
from support.responses_requests import PATH

HEADER = "x-mlxnode-affinity"
USER = {"role": "user", "content": "hi"}
TURNS = [USER, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And?"}]
SYSTEM = {"role": "system", "content": "Be brief."}
CHAT = {"model": "tiny-chat", "messages": [USER], "max_tokens": 4}
BODIES = {
    "chat/completions": CHAT,
    "completions": {"model": "org/tiny-text", "prompt": "x" * 600},
    "responses": {"model": "tiny-chat", "input": "hi"},
    "messages": CHAT,
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
BILLING = "x-anthropic-billing-header: cc_version=1; cch={}; Be brief."


def post(worker, path: str, body: dict, **headers: str) -> httpx.Response:
    sent = worker.headers | {"origin": worker.origin} | headers
    response = httpx.post(f"{worker.url}/v1/{path}", json=body, headers=sent)
    assert response.status_code == 200, response.text
    return response


def affinity(worker, path: str = "chat/completions", **fields) -> str:
    value = post(worker, path, BODIES[path] | fields).headers[HEADER]
    assert re.fullmatch("[0-9a-f]{24}", value)
    return value


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_affinity_is_told_and_pages_may_read_it(worker, path, stream):
    response = post(worker, path, BODIES[path] | {"stream": stream})
    assert response.headers[HEADER] == affinity(worker, path)
    assert HEADER in response.headers["access-control-expose-headers"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("sent", ["", "0" * 24, "my session, of any form; \xe9", "y" * 8000])
def test_affinity_that_is_sent_changes_nothing(worker, path, sent):
    value = post(worker, path, BODIES[path], **{HEADER: sent.encode("latin-1")}).headers[HEADER]
    assert value == affinity(worker, path)


@pytest.mark.parametrize("path", ["chat/completions", "messages"])
def test_affinity_stays_in_all_turns_of_a_conversation(worker, path):
    assert affinity(worker, path, messages=TURNS) == affinity(worker, path)


def test_affinity_of_items_stays_in_all_turns(worker):
    assert affinity(worker, "responses", input=TURNS) == affinity(worker, "responses")


def test_affinity_of_chat_depends_on_all_until_the_first_message_of_the_user(worker):
    others = [
        {"messages": [SYSTEM, USER]},
        {"messages": [{"role": "system", "content": "Be rude."}, USER]},
        {"messages": [{"role": "user", "content": "ho"}]},
        {"tools": [TOOL]},
        {"tools": [TOOL, TOOL | {"function": {"name": "hear"}}]},
    ]
    values = {affinity(worker, **other) for other in others}
    assert len(values | {affinity(worker)}) == len(others) + 1


def test_affinity_does_not_depend_on_what_a_turn_asks_for(worker):
    offered = affinity(worker, tools=[TOOL])
    assert offered == affinity(worker, tools=[TOOL], tool_choice="none")
    assert offered == affinity(worker, tools=[TOOL], temperature=0, max_tokens=9, seed=1)
    assert affinity(worker, messages=[SYSTEM, USER]) == affinity(
        worker, messages=[SYSTEM | {"role": "developer"}, USER]
    )


def test_affinity_of_messages_depends_on_system_and_tools_but_not_on_marks(worker):
    mark = {"cache_control": {"type": "ephemeral"}}
    tool = {"name": "look", "input_schema": {"type": "object"}}
    text = {"type": "text", "text": "Be brief."}
    value = affinity(worker, "messages", system=[text], tools=[tool])
    assert value == affinity(worker, "messages", system=[text | mark], tools=[tool | mark])
    assert value != affinity(worker, "messages", system=[text])
    assert value != affinity(worker, "messages", tools=[tool])


def test_affinity_leaves_out_what_a_client_changes_in_each_request(worker):
    values = {
        affinity(worker, "messages", system=BILLING.format(number)) for number in ("a1", "b2")
    }
    assert len(values) == 1


def test_affinity_of_a_growing_text_stays_and_its_start_counts(worker):
    value = affinity(worker, "completions")
    assert value == affinity(worker, "completions", prompt="x" * 600 + " and more")
    assert value != affinity(worker, "completions", prompt="y" + "x" * 599)
    ids = affinity(worker, "completions", prompt=[5] * 130)
    assert ids == affinity(worker, "completions", prompt=[5] * 131)
    assert ids != affinity(worker, "completions", prompt=[6] * 130)


def test_affinity_depends_on_key_and_model(worker):
    text = {"model": "org/tiny-text", "prompt": "hi"}
    value = affinity(worker, "completions", **text)
    assert value != affinity(worker, "completions", **text | {"model": "tiny-chat"})
    other = {"authorization": f"Bearer {worker.narrow_key}"}
    assert post(worker, "completions", text, **other).headers[HEADER] != value


@pytest.fixture(scope="module")
def storing(start_worker, tool_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with start_worker([tool_model], {}, {"response_store": 6}, store_folder=folder) as worker:
        worker.connect_engine()
        yield worker


def test_affinity_of_a_stored_answer_is_that_of_its_next_turns(storing):
    body = {"model": "tiny-chat", "input": "hi", "instructions": "Be brief."}
    first = post(storing, PATH.removeprefix("/v1/"), body)
    value = first.headers[HEADER]
    id = first.json()["id"]
    for _ in range(2):  # instructions and tools are not carried over
        body = {"model": "tiny-chat", "input": "And?", "previous_response_id": id}
        later = post(storing, PATH.removeprefix("/v1/"), body)
        assert later.headers[HEADER] == value
        id = later.json()["id"]
