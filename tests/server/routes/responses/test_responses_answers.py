"""Answers of /v1/responses: thoughts, forms, parameters and what is left out of a prompt."""

import pytest
from pydantic import BaseModel
from support.contract import IGNORED
from support.named_events import read_events
from support.responses_grammar import check_stream
from support.responses_requests import BASE, CALL, LOOK, ask, prompt_of, refused, turns

from mlxnode.messages.data import Generate

# --- thoughts -------------------------------------------------------------------------


def test_a_sealed_thought_comes_back(native):
    native.engine.answer = "<think>Ein Gedanke 👋🏽</think>Yes."
    answer = ask(
        native, include=["reasoning.encrypted_content"], reasoning={"summary": "auto"}
    ).json()
    thought, message = answer["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "Ein Gedanke 👋🏽"}]
    assert "content" not in thought and answer["reasoning"]["summary"] == "auto"
    native.engine.next(Generate)
    sealed = {
        "type": "reasoning",
        "summary": [],
        "encrypted_content": thought["encrypted_content"],
    }
    text = prompt_of(native, input=[{"role": "user", "content": "hi"}, sealed, message])
    assert "<think>Ein Gedanke 👋🏽</think>Yes." in text


def test_effort_is_understood(native):
    text = prompt_of(native, reasoning={"effort": "none"})
    assert text.endswith("<think></think>")
    assert not prompt_of(native, reasoning={"effort": "high"}).endswith("<think></think>")


# --- forms and parameters -------------------------------------------------------------


class City(BaseModel):
    name: str
    people: int


def test_a_form_is_parsed_by_the_package(native):
    native.engine.answer = '<think></think>{"name": "Bern", "people": 134794}'
    parsed = native.client().responses.parse(**BASE, text_format=City)
    assert parsed.output_parsed == City(name="Bern", people=134794)
    assert native.engine.next(Generate).sampling.grammar is not None
    assert parsed.text.format.type == "json_schema"


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object"},
        {"type": "json_object", "schema": {"type": "object"}},
        {"type": "json_schema", "schema": {"type": "object"}},
        {"type": "json_schema", "name": "with a space", "schema": {"type": "array"}},
    ],
    ids=str,
)
def test_forms_are_enforced(native, form):
    ask(native, text={"format": form, "verbosity": "medium"})
    assert native.engine.next(Generate).sampling.grammar is not None


def test_parameters_are_echoed_as_they_were_used(native):
    options = {
        "instructions": "Be.",
        "max_output_tokens": 50,
        "temperature": 0.25,
        "top_p": 0.5,
        "metadata": {"a": "b"},
        "user": "me",
        "prompt_cache_key": "key",
        "safety_identifier": "id",
        "parallel_tool_calls": False,
        "truncation": "auto",
        "service_tier": "flex",
        "text": {"verbosity": "low"},
        "include": ["web_search_call.results"],
        "max_tool_calls": 3,
        "client_metadata": {"x": "y"},
    }
    response = ask(native, **options)
    answer = response.json()
    for name in (*list(options)[:10], "max_tool_calls"):
        assert answer[name] == options[name], name
    assert answer["service_tier"] == "default" and answer["object"] == "response"
    named = "service_tier, text.verbosity, include (web_search_call.results)"
    assert response.headers[IGNORED] == named
    message = native.engine.next(Generate)
    assert message.max_tokens == 50 and message.sampling.temperature == 0.25


def test_log_probabilities_are_those_of_the_message(native):
    native.engine.answer = "<think>Hm.</think>Yes."
    options = {"include": ["message.output_text.logprobs"], "top_logprobs": 0}
    whole = ask(native, **options).json()["output"][-1]["content"][0]
    assert [entry["token"] for entry in whole["logprobs"]] == list("Yes.")
    streamed = check_stream(read_events(ask(native, **options, stream=True).content))
    assert streamed["output"][-1]["content"][0] == whole


def test_an_answer_that_is_cut_is_incomplete(native):
    native.engine.answer = "All work and no play"
    answer = native.client().responses.create(**BASE, max_output_tokens=8)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[-1].status == "incomplete"


def test_the_package_streams_an_answer(native):
    native.engine.answer = f"<think>Hm.</think>I look.\n{CALL}"
    with native.client().responses.stream(**BASE, tools=[LOOK]) as stream:
        text = "".join(event.delta for event in stream if event.type.endswith("text.delta"))
        final = stream.get_final_response()
    assert text == "Hm.I look."
    assert final.output[-1].parsed_arguments == {"city": "Bern"}
    assert final.usage.total_tokens == final.usage.input_tokens + final.usage.output_tokens


def test_input_tokens_are_counted_as_they_are_used(native):
    options = {**BASE, "instructions": "Be brief.", "tools": [LOOK]}
    counted = native.client().responses.input_tokens.count(**options)
    answer = native.client().responses.create(**options)
    assert counted.input_tokens == answer.usage.input_tokens > 100


# --- truncation -----------------------------------------------------------------------


def test_the_oldest_turns_are_left_out_where_the_request_allows(native):
    items = [{"role": "developer", "content": "Stay."}]
    for number in range(80):
        items.append({"role": "user", "content": f"question {number} " + "x" * 150})
        items.append({"role": "assistant", "content": f"answer {number}"})
    items.append({"role": "user", "content": "last"})
    assert refused(native, input=items)[:2] == ("input", "context_length_exceeded")
    told = turns(prompt_of(native, input=items, truncation="auto", instructions="Be."))
    assert told[:2] == ["system\nBe.", "system\nStay."] and told[-1] == "user\nlast"
    assert told[2].startswith("user\nquestion") and "question 0" not in "".join(told)
    size = len("".join(told))
    assert 8192 * 0.6 < size < 8192 * 0.75


def test_a_last_turn_that_is_too_long_is_refused(native):
    input = [{"role": "user", "content": "a"}, {"role": "user", "content": "x" * 9000}]
    named = refused(native, input=input, truncation="auto")
    assert named[:2] == ("input", "context_length_exceeded")
