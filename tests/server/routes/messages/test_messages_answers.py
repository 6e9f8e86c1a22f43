"""Answers of /v1/messages: thoughts, stops, forms and counts."""

import pytest
from support.contract import IGNORED
from support.messages_requests import USER, ask, message_of, prompt_of, refused, text

from mlxnode.messages.data import Generate, Token, Tokens, Update

# --- thoughts -------------------------------------------------------------------------


def test_thoughts_make_a_round_trip(native):
    native.engine.answer = "<think>Well.</think>Yes."
    answer = ask(native).json()
    thought, told = answer["content"]
    assert (thought["type"], thought["thinking"], told["text"]) == ("thinking", "Well.", "Yes.")
    native.engine.next(Generate)
    history = [USER, {"role": "assistant", "content": answer["content"]}, USER]
    assert "<think>Well.</think>Yes." in prompt_of(native, messages=history)


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_that_are_omitted_come_back_by_their_signature(native, stream):
    native.engine.answer = "<think>Well, 世界.</think>Yes."
    thinking = {"type": "adaptive", "display": "omitted"}
    response = ask(native, thinking=thinking, stream=stream)
    message = message_of(response, stream)
    assert "Well" not in response.text
    [thought, _] = message["content"]
    assert thought["thinking"] == "" and thought["signature"]
    native.engine.next(Generate)
    history = [USER, {"role": "assistant", "content": message["content"]}, USER]
    assert "<think>Well, 世界.</think>Yes." in prompt_of(native, messages=history)


@pytest.mark.parametrize("signature", ["", "EqQBCkYIBxgC", "mlxnode1.%%%", "mlxnode1.", None])
def test_any_signature_is_accepted(native, signature):
    thought = {"type": "thinking", "thinking": "Hm.", "signature": signature}
    redacted = {"type": "redacted_thinking", "data": "opaque"}
    content = [thought, redacted, {**thought, "thinking": ""}, text("Yes.")]
    prompt = prompt_of(native, messages=[USER, {"role": "assistant", "content": content}, USER])
    assert "<think>Hm.</think>Yes." in prompt


def test_thoughts_are_left_out_where_thinking_is_disabled(native):
    native.engine.answer = "<think>Well.</think>Yes."
    answer = ask(native, thinking={"type": "disabled"}).json()
    assert [block["type"] for block in answer["content"]] == ["text"]
    assert native.engine.text(native.engine.next(Generate).prompt).endswith("<think></think>")


def test_a_budget_limits_the_thoughts(native):
    ask(native, thinking={"type": "enabled", "budget_tokens": 30})
    assert native.engine.next(Generate).sampling.thinking.max_tokens == 30


def test_what_changes_nothing_for_a_model_is_named(worker):
    """The model of this worker has no thoughts."""
    response = ask(
        worker,
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config={"effort": "low"},
        context_management={"edits": []},
        service_tier="priority",
        metadata={"user_id": "somebody"},
        top_secret=1,
    )
    assert set(response.headers[IGNORED].split(", ")) == {
        "context_management",
        "output_config.effort",
        "service_tier",
        "thinking.budget_tokens",
        "thinking.type",
        "top_secret",
    }


# --- the answer -----------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("stops", "told", "reason", "stop"),
    [
        (["lo"], "Hel", "stop_sequence", "lo"),
        (["nobody", "l"], "He", "stop_sequence", "l"),
        (["nobody"], "Hello!", "end_turn", None),
        (["", "nobody"], "Hello!", "end_turn", None),
        ([], "Hello!", "end_turn", None),
    ],
)
def test_a_stop_sequence_is_told(worker, stream, stops, told, reason, stop):
    response = ask(worker, stop_sequences=stops, stream=stream)
    message = message_of(response, stream)
    assert message["content"][0]["text"] == told
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, stop)


def test_parameters_reach_the_engine(worker):
    ask(worker, temperature=0.25, top_p=0.5, top_k=7, max_tokens=33)
    message = worker.engine.next(Generate)
    sampling = message.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.25, 0.5, 7)
    assert message.max_tokens == 33


@pytest.mark.parametrize("place", ["output_format", "output_config"])
def test_a_schema_of_the_answer_is_enforced(native, place):
    form = {"type": "json_schema", "schema": {"type": "object", "properties": {}}}
    native.engine.answer = "{}"
    ask(native, **{place: form if place == "output_format" else {"format": form}})
    assert native.engine.next(Generate).sampling.grammar is not None


def test_two_schemas_are_refused(native):
    forms = [{"type": "json_schema", "schema": {"type": t}} for t in ("object", "array")]
    refused(native, output_format=forms[0], output_config={"format": forms[1]})


@pytest.mark.parametrize("stream", [False, True])
def test_cached_tokens_are_no_input_tokens(worker, stream):
    def say(message: Generate) -> None:
        tokens = [Token(id, None) for id in worker.engine.ids("Hello!")]
        update = Update(uid=message.uid, tokens=tokens, finish="stop", num_cached=5)
        worker.engine.send(Tokens([update]))

    worker.engine.on_generate = say
    response = ask(worker, stream=stream)
    message = message_of(response, stream)
    usage = message["usage"]
    assert usage["cache_read_input_tokens"] == 5 and usage["output_tokens"] == 7
    assert usage["input_tokens"] == len(worker.engine.next(Generate).prompt) - 5


def test_more_tokens_than_fit_are_clamped(worker):
    response = ask(worker, max_tokens=32_000)
    assert int(response.headers["x-mlxnode-max-tokens"]) < 1024
