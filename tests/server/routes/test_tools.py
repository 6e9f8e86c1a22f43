"""Tools and reasoning over HTTP: what the model is told, and what comes back."""

import json

import openai
import pytest
from openai.lib.streaming.chat import ChunkEvent
from pydantic import BaseModel
from support.contract import CHAT, chat, post, prompt_of

from mlxnode.messages.data import Abort, Generate

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>'
CALL_NOW = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'


# --- tools ------------------------------------------------------------------------------


def test_a_call_and_its_result_make_a_round_trip(native):
    native.engine.answer = f"I look.\n{CALL}"
    answer = chat(native, tools=[WEATHER, NOW])
    [choice] = answer.choices
    [call] = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and choice.message.content == "I look."
    assert call.function.name == "get_weather" and call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Bern"}
    asked = prompt_of(native)
    assert '"name": "get_weather"' in asked and '"name": "now"' in asked

    native.engine.answer = "Sunny."
    result = {"role": "tool", "tool_call_id": call.id, "content": "sun"}
    messages = [*CHAT["messages"], choice.message.model_dump(exclude_none=True), result]
    second = chat(native, messages=messages, tools=[WEATHER, NOW])
    assert second.choices[0].message.content == "Sunny."
    assert second.choices[0].finish_reason == "stop"
    assert CALL in (told := prompt_of(native))
    assert "<|im_start|>tool\nsun<|im_end|>" in told


def test_a_model_without_a_syntax_is_told_in_plain_words(plain_worker):
    plain_worker.engine.answer = CALL_NOW
    [choice] = chat(plain_worker, tools=[NOW]).choices
    asked = prompt_of(plain_worker)
    assert asked.startswith("<|im_start|>system\nYou have these tools")
    assert '"name": "now"' in asked
    assert [call.function.name for call in choice.message.tool_calls] == ["now"]
    result = {"role": "tool", "tool_call_id": "1", "content": "7"}
    messages = [*CHAT["messages"], choice.message.model_dump(exclude_none=True), result, result]
    chat(plain_worker, messages=messages)
    assert prompt_of(plain_worker) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "now", "arguments": {}}\n</tool_call><|im_end|>\n<|im_start|>user\n'
        "<tool_response>\n7\n</tool_response>\n<tool_response>\n7\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_calls_stream_as_openai_streams_them(native):
    native.engine.answer = f"I look.\n{CALL}\n{CALL_NOW}"
    chunks = list(chat(native, tools=[WEATHER, NOW], stream=True))
    assert [c.choices[0].finish_reason for c in chunks][-1] == "tool_calls"
    calls = [call for c in chunks for call in c.choices[0].delta.tool_calls or ()]
    heads = [call for call in calls if call.id]
    assert [(call.index, call.function.name) for call in heads] == [
        (0, "get_weather"),
        (1, "now"),
    ]
    assert all(call.type == "function" for call in heads)
    pieces = [call.function.arguments for call in calls if call.index == 0]
    assert json.loads("".join(pieces)) == {"city": "Bern"}
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "I look."


def test_the_sdk_reads_streamed_calls_into_pydantic(native):
    class get_weather(BaseModel):
        city: str

    native.engine.answer = CALL
    tool = openai.pydantic_function_tool(get_weather)
    with native.client().chat.completions.stream(**CHAT, tools=[tool]) as stream:
        events = [event for event in stream if not isinstance(event, ChunkEvent)]
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls
    assert call.function.parsed_arguments == get_weather(city="Bern")
    assert any(event.type == "tool_calls.function.arguments.delta" for event in events)
    parsed = native.client().chat.completions.parse(**CHAT, tools=[tool])
    assert parsed.choices[0].message.tool_calls[0].function.parsed_arguments.city == "Bern"


def test_text_that_only_looks_like_a_call_is_text(native):
    native.engine.answer = '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>'
    [choice] = chat(native, tools=[WEATHER]).choices
    assert choice.message.content == native.engine.answer
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "stop")


@pytest.mark.parametrize("options", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_without_tools_nothing_is_a_call(native, options):
    native.engine.answer = CALL
    [choice] = chat(native, **options).choices
    assert choice.message.content == CALL and choice.finish_reason == "stop"
    assert "get_weather" not in prompt_of(native)


def test_without_parallel_calls_the_engine_stops_at_the_first(native):
    native.engine.on_generate = lambda message: native.engine.update(message.uid, f"{CALL}\n<")
    [choice] = chat(native, tools=[WEATHER, NOW], parallel_tool_calls=False).choices
    assert [call.function.name for call in choice.message.tool_calls] == ["get_weather"]
    assert choice.finish_reason == "tool_calls"
    assert native.engine.next(Abort)


@pytest.mark.parametrize("parallel", [True, False, None])
def test_a_named_tool_choice_is_one_call(native, parallel):
    native.engine.on_generate = lambda message: native.engine.update(
        message.uid, f"{CALL_NOW}\n{CALL_NOW}\n<"
    )
    named = {"type": "function", "function": {"name": "now"}}
    options = {} if parallel is None else {"parallel_tool_calls": parallel}
    [choice] = chat(native, tools=[WEATHER, NOW], tool_choice=named, **options).choices
    assert [call.function.name for call in choice.message.tool_calls] == ["now"]
    lark = json.loads(native.engine.next(Generate).sampling.grammar)["grammars"][0]
    assert lark["lark_grammar"].endswith("start: call")
    assert native.engine.next(Abort)


def test_required_calls_may_be_several(native):
    native.engine.answer = f"{CALL}\n{CALL_NOW}"
    [choice] = chat(native, tools=[WEATHER, NOW], tool_choice="required").choices
    names = [call.function.name for call in choice.message.tool_calls]
    assert names == ["get_weather", "now"]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", ["get_weather", "now"]),
        ({"type": "function", "function": {"name": "now"}}, ["now"]),
    ],
)
def test_a_forced_call_is_a_grammar(native, choice, names):
    chat(native, tools=[WEATHER, NOW], tool_choice=choice)
    message = native.engine.next(Generate)
    lark = json.loads(message.sampling.grammar)["grammars"][0]["lark_grammar"]
    assert [name for name in ("get_weather", "now") if name in lark] == names
    assert "TEXT" not in lark
    # No thinking before it, as nobody asked for that.
    assert native.engine.text(message.prompt).endswith("assistant\n<think></think>")
    assert message.sampling.grammar_after == []


def test_a_strict_tool_is_a_grammar_around_free_text(native):
    strict = {"type": "function", "function": WEATHER["function"] | {"strict": True}}
    chat(native, tools=[strict])
    message = native.engine.next(Generate)
    assert "TEXT" in message.sampling.grammar
    assert native.engine.text(message.prompt).endswith("assistant\n")
    chat(native, tools=[WEATHER])
    assert native.engine.next(Generate).sampling.grammar is None


def test_a_form_of_the_answer_leaves_the_call_as_the_other_way(native):
    chat(native, tools=[NOW], response_format={"type": "json_object"})
    lark = json.loads(native.engine.next(Generate).sampling.grammar)["grammars"][0]
    assert "| @part_1)" in lark["lark_grammar"]


# --- reasoning --------------------------------------------------------------------------


def test_reasoning_has_its_own_place_and_count(native):
    native.engine.answer = "<think>\nhm\n</think>\n\nYes."
    answer = chat(native, stop=["hm"])  # a stop string ends the answer, not the thought
    message = answer.choices[0].message
    assert (message.reasoning_content, message.content) == ("hm", "Yes.")
    # A byte or a marker is a token; the one that ends the text is counted, too.
    assert answer.usage.completion_tokens_details.reasoning_tokens == len("\nhm\n") + 1
    assert answer.usage.completion_tokens == 1 + len("\nhm\n") + 1 + len("\n\nYes.") + 1


def test_reasoning_streams_before_the_answer(native):
    native.engine.answer = "<think>hm</think>Yes."
    deltas = [c.choices[0].delta.model_dump() for c in chat(native, stream=True)]
    assert "".join(d.get("reasoning_content") or "" for d in deltas) == "hm"
    assert "".join(d.get("content") or "" for d in deltas) == "Yes."
    kinds = [d.get("reasoning_content") is not None for d in deltas]
    assert kinds.index(True) < len(kinds) - 1 - kinds[::-1].index(False)


@pytest.mark.parametrize(
    ("options", "ending"),
    [
        ({}, "assistant\n"),
        ({"reasoning_effort": "high"}, "assistant\n"),
        ({"reasoning_effort": "none"}, "assistant\n<think></think>"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "assistant\n<think></think>"),
        ({"add_generation_prompt": False}, "hi<|im_end|>\n"),
        ({"response_format": {"type": "json_object"}}, "assistant\n<think></think>"),
        (
            {"response_format": {"type": "json_object"}, "reasoning_effort": "low"},
            "assistant\n<think>\n",
        ),
    ],
)
def test_thinking_is_switched_by_the_request(native, options, ending):
    response = post(native, "/v1/chat/completions", CHAT | options)
    assert response.status_code == 200, response.text
    message = native.engine.next(Generate)
    assert native.engine.text(message.prompt).endswith(ending)
    starts_thinking = ending.endswith("<think>\n")
    assert bool(message.sampling.grammar_after) is starts_thinking
    reasoning = response.json()["choices"][0]["message"].get("reasoning_content")
    assert reasoning == ("Hello!" if starts_thinking else None)


def test_the_final_message_is_continued(native):
    messages = [*CHAT["messages"], {"role": "assistant", "content": "<think>Let me"}]
    options = {"messages": messages, "extra_body": {"continue_final_message": True}}
    native.engine.answer = " see</think>Yes."
    message = chat(native, **options).choices[0].message
    assert (message.reasoning_content, message.content) == ("see", "Yes.")
    assert prompt_of(native).endswith("assistant\n<think>Let me")


def test_reasoning_of_earlier_turns_reaches_the_template(native):
    earlier = {"role": "assistant", "content": "Yes.", "reasoning_content": "hm"}
    chat(native, messages=[*CHAT["messages"], earlier, *CHAT["messages"]])
    assert "<think>hm</think>Yes.<|im_end|>" in prompt_of(native)


# --- what goes with an answer --------------------------------------------------------------


def test_service_tier_is_told_to_those_who_ask(native):
    assert chat(native, service_tier="auto").service_tier == "default"
    assert chat(native).service_tier is None
    assert next(iter(chat(native, service_tier="auto", stream=True))).service_tier == "default"
