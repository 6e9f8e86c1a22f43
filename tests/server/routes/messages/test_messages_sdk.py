"""Documented flows of Anthropic's Python package against a worker."""

import anthropic
import pydantic
import pytest
from anthropic import beta_tool

from mlxnode.messages.control import Limit, Reserved
from mlxnode.messages.data import Failed, Generate

ASK = {
    "model": "tiny-chat",
    "max_tokens": 400,
    "messages": [{"role": "user", "content": "hi"}],
}
TOOL = {
    "name": "f",
    "description": "Weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = '<tool_call>{"name": "f", "arguments": {"city": "Bern"}}</tool_call>'


@pytest.fixture
def client(worker):
    with anthropic.Anthropic(
        base_url=worker.url, api_key=worker.key, max_retries=0, timeout=20
    ) as client:
        yield client


def test_create(client):
    message = client.messages.create(**ASK)
    [block] = message.content
    assert (block.type, block.text) == ("text", "Hello!")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.usage.output_tokens == 7 and message.usage.input_tokens > 0
    assert message._request_id.startswith("req_")


def test_key_as_bearer_token(worker):
    with anthropic.Anthropic(base_url=worker.url, auth_token=worker.key) as client:
        assert client.messages.create(**ASK).content[0].text == "Hello!"


def test_stream_of_text(client):
    with client.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == "Hello!"
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == 7


def test_stream_of_raw_events(client):
    kinds = [event.type for event in client.messages.create(**ASK, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_tool_loop(client, worker, is_stream):
    def ask(messages):
        if not is_stream:
            return client.messages.create(**ASK | {"messages": messages, "tools": [TOOL]})
        with client.messages.stream(**ASK | {"messages": messages, "tools": [TOOL]}) as stream:
            return stream.get_final_message()

    worker.engine.answer, worker.engine.step = f"I look.\n{CALL}", 3
    answer = ask(ASK["messages"])
    text, call = answer.content
    assert answer.stop_reason == "tool_use" and text.text == "I look."
    assert (call.type, call.name, call.input) == ("tool_use", "f", {"city": "Bern"})
    worker.engine.next(Generate)
    worker.engine.answer = "Sunny."
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "7 degrees"}
    history = [
        *ASK["messages"],
        answer.to_param(),
        {"role": "user", "content": [result]},
    ]
    assert ask(history).content[0].text == "Sunny."
    prompt = worker.engine.text(worker.engine.next(Generate).prompt)
    assert prompt.index("I look.") < prompt.index("Bern") < prompt.index("7 degrees")


def test_the_tool_runner_of_the_package(client, worker):
    @beta_tool
    def weather(city: str) -> str:
        """Weather of a city.

        Args:
            city: its name
        """
        asked.append(city)
        worker.engine.answer = "Sunny."
        return "7 degrees"

    asked = []
    worker.engine.answer = CALL.replace('"f"', '"weather"')
    runner = client.beta.messages.tool_runner(tools=[weather], **ASK)
    final = runner.until_done()
    assert asked == ["Bern"] and final.content[0].text == "Sunny."


def test_parse_into_a_model(client, worker):
    class City(pydantic.BaseModel):
        name: str

    worker.engine.answer = '{"name": "Bern"}'
    message = client.messages.parse(**ASK, output_format=City)
    assert message.parsed_output == City(name="Bern")
    assert worker.engine.next(Generate).sampling.grammar is not None


def test_count_tokens_is_the_length_of_the_prompt(client, worker):
    count = client.messages.count_tokens(model="tiny-chat", messages=ASK["messages"])
    client.messages.create(**ASK)
    assert count.input_tokens == len(worker.engine.next(Generate).prompt)


def test_models(client):
    ids = ["tiny-chat", "org/tiny-text", "tiny-embedding"]
    assert [model.id for model in client.models.list()] == ids
    assert [model.id for model in client.models.list(limit=1)] == ids  # page by page
    page = client.models.list(limit=1, before_id=ids[2])
    assert [model.id for model in page.data] == ids[1:2] and page.has_more
    assert [model.id for model in page] == [ids[1], ids[0]]
    model = client.models.retrieve("org/tiny-text")
    assert (model.id, model.type, model.created_at.year) == ("org/tiny-text", "model", 2023)


@pytest.mark.parametrize(
    ("change", "kind", "type"),
    [
        ({"temperature": 9}, anthropic.BadRequestError, "invalid_request_error"),
        ({"model": "claude"}, anthropic.NotFoundError, "not_found_error"),
        ({"model": "tiny-embedding"}, anthropic.BadRequestError, "invalid_request_error"),
        ({"messages": []}, anthropic.BadRequestError, "invalid_request_error"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_errors_are_typed(client, change, kind, type, is_stream):
    with pytest.raises(kind) as caught:
        options = {"extra_body": {"temperature": 9}} if "temperature" in change else change
        client.messages.create(**ASK | options, stream=is_stream)
    assert caught.value.type == type and caught.value.request_id.startswith("req_")


def test_a_wrong_key_is_an_authentication_error(worker):
    with anthropic.Anthropic(base_url=worker.url, api_key="sk-no", max_retries=0) as client:
        for call in (lambda: client.messages.create(**ASK), client.models.list):
            with pytest.raises(anthropic.AuthenticationError) as caught:
                call()
            assert caught.value.type == "authentication_error"


def test_a_rate_limit_is_retried(client, worker):
    limits = Limit(60, 0, 30.0), Limit(100_000, 100_000, 0.0)
    worker.refuse, worker.num_refusals = Reserved(0, "requests", 0.1, *limits), 1
    message = client.with_options(max_retries=1).messages.create(**ASK)
    assert message.content[0].text == "Hello!"
    worker.num_refusals = 1
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(**ASK)
    headers = caught.value.response.headers
    assert caught.value.type == "rate_limit_error"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert headers["anthropic-ratelimit-requests-reset"].endswith("Z")


def test_an_overload_is_an_internal_error_that_says_so(client, worker):
    def refuse(message: Generate) -> None:
        worker.engine.send(Failed(message.uid, "overloaded", "the queue is full"))

    worker.engine.on_generate = refuse
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**ASK)
    assert (caught.value.status_code, caught.value.type) == (503, "overloaded_error")


def test_a_broken_stream_is_an_error(client, worker):
    def break_off(message: Generate) -> None:
        worker.engine.update(message.uid, "abc")
        worker.engine.send(Failed(message.uid, "internal", "broken"))

    worker.engine.on_generate = break_off
    text = ""
    with (
        pytest.raises(anthropic.APIStatusError, match="broken") as caught,
        client.messages.stream(**ASK) as stream,
    ):
        for piece in stream.text_stream:
            text += piece
    assert text == "abc" and caught.value.type == "api_error"
