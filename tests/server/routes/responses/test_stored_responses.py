"""Stored answers: found by every worker, each key its own, continued without their history."""

import json

import openai
import pytest
from support.contract import error_of, post, prompt_of
from support.named_events import read_events
from support.responses_grammar import check_stream
from support.responses_requests import BASE, PATH

from mlxnode.messages.data import Failed, Generate

OTHER_KEY = "sk-another-key-0123456789"
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}}
CALL = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'


@pytest.fixture(scope="module")
def workers(start_worker, tool_model, tmp_path_factory):
    """Two workers of one node that keeps six answers of each key."""
    store = tmp_path_factory.mktemp("store")
    server = {"response_store": 6}
    with (
        start_worker([tool_model], {}, server, store_folder=store) as one,
        start_worker([tool_model], {}, server, store_folder=store) as two,
    ):
        one.connect_engine()
        two.connect_engine()
        yield one, two


@pytest.fixture
def pair(workers):
    for worker in workers:
        worker.settle()
    return workers


@pytest.mark.long
def test_a_conversation_goes_on_at_another_worker(pair):
    one, two = pair
    one.engine.answer = f"<think>Hm.</think>I look.\n{CALL}"
    first = one.client().responses.create(
        **BASE, tools=[LOOK], instructions="Be brief.", store=True
    )
    call = first.output[-1]
    two.engine.answer = "Sunny."
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
    second = two.client().responses.create(
        model="tiny-chat", input=[result], previous_response_id=first.id, tools=[LOOK]
    )
    assert second.output_text == "Sunny." and second.previous_response_id == first.id
    prompt = prompt_of(two)
    assert "user\nhi" in prompt and f"<think>Hm.</think>I look.\n{CALL}" in prompt
    assert "tool\nsun" in prompt and "Be brief." not in prompt
    third = one.client().responses.create(
        model="tiny-chat", input="And now?", previous_response_id=second.id
    )
    one.engine.next(Generate)
    assert "Sunny." in prompt_of(one) and third.status == "completed"


@pytest.mark.parametrize("is_stream", [False, True])
def test_what_was_answered_is_found(pair, is_stream):
    one, two = pair
    one.engine.answer = "All work and no play"
    response = post(one, PATH, BASE | {"stream": is_stream, "max_output_tokens": 8})
    answer = check_stream(read_events(response.content)) if is_stream else response.json()
    assert answer["status"] == "incomplete" and answer["store"] is True
    found = two.client().responses.with_raw_response.retrieve(answer["id"])
    assert json.loads(found.text) == answer


def test_items_are_listed_in_pages(pair):
    one, two = pair
    input = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "d"},
        {"type": "web_search_call", "id": "ws", "status": "completed"},
    ]
    answer = one.client().responses.create(model="tiny-chat", input=input)
    client = two.client().responses.input_items
    page = client.list(answer.id, order="asc", limit=2)
    assert page.has_more and [item.content[0].text for item in page.data] == ["a", "b"]
    assert [item.content[0].type for item in page.data] == ["input_text", "output_text"]
    kinds = [item.type for item in client.list(answer.id, order="asc", after=page.last_id)]
    assert kinds == ["function_call", "function_call_output", "web_search_call"]
    assert next(item.type for item in client.list(answer.id)) == "web_search_call"
    ids = [item.id for item in client.list(answer.id)]
    assert len(set(ids)) == 5 and all(ids)
    with pytest.raises(openai.BadRequestError, match="limit"):
        client.list(answer.id, limit=101)
    with pytest.raises(openai.BadRequestError, match="order"):
        client.list(answer.id, order="up")
    with pytest.raises(openai.NotFoundError, match="msg_x"):
        client.list(answer.id, after="msg_x")


def test_items_are_referred_to(pair):
    one, two = pair
    one.engine.answer = "<think>Hm.</think>Yes."
    answer = one.client().responses.create(**BASE)
    references = [{"type": "item_reference", "id": item.id} for item in answer.output]
    references[-1].pop("type")  # it has no other fields
    input = [{"role": "user", "content": "hi"}, *references, {"role": "user", "content": "?"}]
    again = two.client().responses.create(model="tiny-chat", input=input)
    assert "assistant\n<think>Hm.</think>Yes.<|im_end|>" in prompt_of(two)
    listed = one.client().responses.input_items.list(again.id, order="asc")
    assert [item.type for item in listed] == ["message", "reasoning", "message", "message"]
    with pytest.raises(openai.NotFoundError, match=r"input\[0\]|msg_0"):
        two.client().responses.create(
            model="tiny-chat", input=[{"type": "item_reference", "id": "msg_0"}]
        )


def test_a_key_sees_only_its_own(pair):
    one, two = pair
    answer = one.client().responses.create(**BASE)
    [item] = answer.output
    stranger = two.client(api_key=OTHER_KEY).responses
    for act in (stranger.retrieve, stranger.delete, stranger.input_items.list, stranger.cancel):
        with pytest.raises(openai.NotFoundError):
            act(answer.id)
    with pytest.raises(openai.BadRequestError, match="Previous response"):
        stranger.create(**BASE, previous_response_id=answer.id)
    with pytest.raises(openai.NotFoundError):
        stranger.create(model="tiny-chat", input=[{"type": "item_reference", "id": item.id}])
    assert one.client().responses.retrieve(answer.id).id == answer.id


def test_what_is_deleted_or_not_to_be_stored_is_not_found(pair):
    one, two = pair
    answer = one.client().responses.create(**BASE)
    two.client().responses.delete(answer.id)
    unkept = one.client().responses.create(**BASE, store=False)
    for id in (answer.id, unkept.id, "resp_x"):
        with pytest.raises(openai.NotFoundError, match=id):
            one.client().responses.retrieve(id)
        with pytest.raises(openai.NotFoundError, match=id):
            one.client().responses.delete(id)
    response = post(one, PATH, BASE | {"previous_response_id": answer.id})
    error = error_of(response)
    assert (response.status_code, error["param"], error["code"]) == (
        400,
        "previous_response_id",
        "previous_response_not_found",
    )


def test_the_newest_answers_are_kept(pair):
    one, two = pair
    client = one.client(api_key=OTHER_KEY).responses
    answers = [client.create(**BASE)]
    answers += [client.create(**BASE, previous_response_id=answers[-1].id)]
    answers += [client.create(**BASE, previous_response_id=answers[-1].id) for _ in range(5)]
    found = []
    for answer in answers:
        try:
            found.append(two.client(api_key=OTHER_KEY).responses.retrieve(answer.id))
        except openai.NotFoundError:
            continue
    assert [answer.id for answer in found] == [answer.id for answer in answers[1:]]
    # What an answer was made from outlives the earlier answers.
    items = two.client(api_key=OTHER_KEY).responses.input_items.list(answers[-1].id)
    assert len(list(items)) == 5


def test_a_stored_answer_is_neither_streamed_again_nor_cancelled(pair):
    one, _ = pair
    answer = one.client().responses.create(**BASE)
    with pytest.raises(openai.BadRequestError, match="stream"):
        one.client().responses.retrieve(answer.id, stream=True)
    with pytest.raises(openai.BadRequestError, match="background"):
        one.client().responses.cancel(answer.id)
    found = one.client().responses.with_raw_response.retrieve(answer.id, include=["x"])
    assert found.headers["x-mlxnode-ignored"]


def test_a_failed_answer_is_not_stored(pair):
    one, two = pair

    def fail(message: Generate) -> None:
        one.engine.update(message.uid, "Hello, this is more than a few words long, I hope")
        one.engine.send(Failed(message.uid, "internal", "The engine failed"))

    one.engine.on_generate = fail
    response = post(one, PATH, BASE | {"stream": True, "enable_thinking": False})
    answer = check_stream(read_events(response.content))
    assert answer["status"] == "failed"
    with pytest.raises(openai.NotFoundError):
        two.client().responses.retrieve(answer["id"])
