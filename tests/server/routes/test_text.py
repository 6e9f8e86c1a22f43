"""Chat and text completions through the OpenAI SDK, against a scripted engine."""

import httpx2 as httpx
import openai
import pytest
from support.contract import CHAT, chat, complete

from mlxnode.messages.data import Abort, Failed, Generate, Sampling

ASK = CHAT["messages"]
PROMPT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
NUM_PROMPT = len("user\nhi\nassistant\n") + 3


# --- chat ---------------------------------------------------------------------------


def test_chat_answers_in_full(worker):
    worker.engine.answer = "Grüezi 👋🏽!"
    answer = chat(worker)
    [choice] = answer.choices
    assert choice.message.content == "Grüezi 👋🏽!"
    assert choice.finish_reason == "stop"
    assert choice.logprobs is None and choice.message.refusal is None
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion"
    assert answer.model == "tiny-chat"
    num_tokens = len("Grüezi 👋🏽!".encode()) + 1  # the stop token was generated too
    assert answer.usage.prompt_tokens == NUM_PROMPT
    assert answer.usage.completion_tokens == num_tokens
    assert answer.usage.total_tokens == NUM_PROMPT + num_tokens


def test_chat_sends_the_engine_the_rendered_prompt(worker):
    chat(worker, top_p=0.5, seed=7, extra_body={"top_k": 3, "min_p": 0.25})
    message = worker.engine.next(Generate)
    assert worker.engine.text(message.prompt) == PROMPT
    assert message.model == "tiny-chat"
    assert message.stop_ids == [2]
    assert message.max_tokens == 1024 - NUM_PROMPT
    assert message.sampling == Sampling(temperature=0.7, top_p=0.5, top_k=3, min_p=0.25, seed=7)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_chat_stops_at_max_tokens(worker, name):
    answer = chat(worker, **{name: 3})
    assert answer.choices[0].message.content == "Hel"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_chat_cut_within_a_character_shows_none_of_it(worker):
    worker.engine.answer = "a👍"
    assert chat(worker, max_tokens=3).choices[0].message.content == "a"


def test_chat_stop_string_across_tokens(worker):
    worker.engine.answer = "one two\n\nthree"
    answer = chat(worker, stop=["\n\n", "four"])
    assert answer.choices[0].message.content == "one two"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == len("one two\n\n")


def test_chat_stop_string_aborts_the_engine(worker):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "a#b")
    assert chat(worker, stop="#").choices[0].message.content == "a"
    uid = worker.engine.next(Generate).uid
    assert worker.engine.next(Abort).uid == uid


async def test_chat_async(worker):
    async with worker.async_client() as client:
        answer = await client.chat.completions.create(model="tiny-chat", messages=ASK)
        stream = await client.chat.completions.create(
            model="tiny-chat", messages=ASK, stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert answer.choices[0].message.content == text == "Hello!"


def test_chat_takes_text_parts_and_all_roles(worker):
    messages = [
        {"role": "developer", "content": "be kind"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        },
        {"role": "assistant", "content": "c"},
        {"role": "tool", "tool_call_id": "1", "content": "d"},
    ]
    chat(worker, messages=messages)
    prompt = worker.engine.text(worker.engine.next(Generate).prompt)
    assert prompt == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nab<|im_end|>\n"
        "<|im_start|>assistant\nc<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nd\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"model": "tiny-embedding"}, "model", "model_not_supported"),
        ({"model": "org/tiny-text"}, "model", "model_not_supported"),
        (
            {"messages": [{"role": "user", "content": "x" * 1100}]},
            "messages",
            "context_length_exceeded",
        ),
        ({"n": 9}, "n", "integer_above_max_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"presence_penalty": 2.1}, "presence_penalty", "decimal_above_max_value"),
        ({"frequency_penalty": -3}, "frequency_penalty", "decimal_below_min_value"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "decimal_above_max_value"),
        ({"logit_bias": {"259": 1}}, "logit_bias", "invalid_token_id"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        (
            {"response_format": {"type": "json_object"}, "extra_body": {"min_tokens": 3}},
            "min_tokens",
            "invalid_parameter_combination",
        ),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
    ],
)
def test_chat_refuses(worker, options, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(worker, **options)
    assert caught.value.param == param
    assert caught.value.code == code or code is None
    assert worker.engine.received.empty()


@pytest.mark.parametrize("length", [1024, 1025, 2000])
def test_chat_over_the_context_tells_the_numbers(worker, length):
    with pytest.raises(openai.BadRequestError) as caught:
        text = "x" * (length - NUM_PROMPT + len(ASK[0]["content"]))
        chat(worker, messages=[{"role": "user", "content": text}], max_tokens=5)
    for number in (1024, length):
        assert f" {number} tokens" in caught.value.message


def test_chat_unknown_model(worker):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(worker, model="gpt-4o")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("overloaded", openai.InternalServerError),
        ("internal", openai.InternalServerError),
        ("too_large", openai.BadRequestError),
    ],
)
def test_chat_engine_failure_is_a_status(worker, reason, error, stream):
    def fail(message: Generate) -> None:
        worker.engine.send(Failed(message.uid, reason, "because"))

    worker.engine.on_generate = fail
    with pytest.raises(error, match="because") as caught:
        chat(worker, stream=stream)
    assert ("retry-after" in caught.value.response.headers) == (reason == "overloaded")
    assert caught.value.status_code == {"overloaded": 503, "internal": 500}.get(reason, 400)


def test_chat_large_prompt_is_served(worker):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(worker, messages=[{"role": "user", "content": "word " * 50_000}])
    assert caught.value.code == "context_length_exceeded"


def test_chat_names_ignored_fields(worker):
    response = worker.client().chat.completions.with_raw_response.create(
        model="tiny-chat", messages=ASK, extra_body={"mirostat": 2, "tfs_ü": 1}
    )
    assert response.headers["x-mlxnode-ignored"] == "mirostat, tfs_\\xfc"


# --- text completions ---------------------------------------------------------------


def test_completion_answers(worker):
    answer = complete(worker)
    assert answer.choices[0].text == "Hello!"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.id.startswith("cmpl-") and answer.object == "text_completion"
    message = worker.engine.next(Generate)
    assert worker.engine.text(message.prompt) == "Once"
    assert message.max_tokens == 16


def test_completion_of_a_chat_model(worker):
    assert complete(worker, model="tiny-chat").choices[0].text == "Hello!"


def test_completion_of_token_ids(worker):
    complete(worker, prompt=[5, 6, 7])
    assert worker.engine.next(Generate).prompt == [5, 6, 7]


@pytest.mark.parametrize("prompt", [["a", "bb", "ccc"], [[4], [4, 5], [4, 5, 6]]])
def test_completion_of_several_prompts_keeps_their_order(worker, prompt):
    def answer_by_length(message: Generate) -> None:
        worker.engine.update(message.uid, str(len(message.prompt)), "stop")

    worker.engine.on_generate = answer_by_length
    answer = complete(worker, prompt=prompt)
    assert [(c.index, c.text) for c in answer.choices] == [(0, "1"), (1, "2"), (2, "3")]
    assert answer.usage.prompt_tokens == 6 and answer.usage.completion_tokens == 6


def test_completion_default_length_fits_what_is_left(worker):
    complete(worker, prompt=[[5] * 1017, [5]])
    assert [worker.engine.next(Generate).max_tokens for _ in range(2)] == [7, 16]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": [5] * 1024}, "prompt"),
        ({"prompt": [999]}, "prompt"),
        ({"prompt": [[1], [999]]}, "prompt[1]"),
        ({"logprobs": 6}, "logprobs"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"suffix": "x"}, "suffix"),
    ],
)
def test_completion_refuses(worker, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(worker, **options)
    assert caught.value.param == param


def test_one_failed_prompt_fails_the_request_and_aborts_the_others(worker):
    def fail_second(message: Generate) -> None:
        if len(message.prompt) == 2:
            worker.engine.send(Failed(message.uid, "internal", "no luck"))

    worker.engine.on_generate = fail_second
    with pytest.raises(openai.InternalServerError, match="no luck"):
        complete(worker, prompt=["a", "bb", "ccc"])
    uids = [worker.engine.next(Generate).uid for _ in range(3)]
    assert {worker.engine.next(Abort).uid for _ in range(2)} == {uids[0], uids[2]}


# --- bodies -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("multipart/form-data; boundary=x", b"{}", 400, "unsupported_content_type"),
        ("application/xml", b"{}", 400, "unsupported_content_type"),
        ("application/json", b"{", 400, None),
        ("application/json; charset=utf-8", b"[]", 400, None),
        ("application/json", b" " * 1_500_000, 413, "request_too_large"),
    ],
)
def test_bodies_that_are_refused(worker, content_type, body, status, code):
    headers = worker.headers | {"content-type": content_type}
    response = httpx.post(f"{worker.url}/v1/completions", content=body, headers=headers)
    error = response.json()["error"]
    assert response.status_code == status
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" and error["code"] == code


def test_chunked_body(worker):
    def body():
        yield b'{"model": "org/tiny-text", '
        yield b'"prompt": "x"}'

    headers = worker.headers | {"content-type": "application/json"}
    response = httpx.post(f"{worker.url}/v1/completions", content=body(), headers=headers)
    assert response.json()["choices"][0]["text"] == "Hello!"
