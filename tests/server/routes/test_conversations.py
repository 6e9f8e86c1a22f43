"""Conversations over HTTP: histories of other servers, wishes about reasoning, few roles."""

import dataclasses
import json

import pytest
from support import tiny
from support.contract import CHAT, IGNORED, chat, post, prompt_of
from support.picky_templates import PICKY

PATH = "/v1/chat/completions"
TOOLS = [
    {"type": "function", "function": {"name": "find", "description": "Sucht überall"}},
    {"type": "function", "function": {"name": "now"}},
]
CALL = '<tool_call>\n{"name": "find", "arguments": {"what": "Öl"}}\n</tool_call>'
CALL_NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


@pytest.fixture(scope="module")
def gemma_worker(start_worker, tool_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "gemma"
    tiny.make_chat_model(folder, template=PICKY["gemma"])
    model = dataclasses.replace(tool_model, folder=folder)
    with start_worker([model], {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def gemma(gemma_worker):
    gemma_worker.settle()
    return gemma_worker


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"reasoning_effort": "none"}, "reasoning_effort"),
        (
            {"reasoning": {"effort": "high", "max_tokens": 7}},
            "reasoning.effort, reasoning.max_tokens",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 7}},
            "thinking.type, thinking.budget_tokens",
        ),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"enable_thinking": True, "thinking_budget": 9}, "enable_thinking, thinking_budget"),
        (
            {"chat_template_kwargs": {"enable_thinking": False, "other": {"a": [1, None]}}},
            "chat_template_kwargs.enable_thinking, chat_template_kwargs.other",
        ),
        ({"mirostat": 1, "reasoning_effort": "low"}, "mirostat, reasoning_effort"),
        ({"reasoning_effort": None, "thinking": None, "chat_template_kwargs": None}, None),
    ],
)
def test_wishes_about_reasoning_without_effect_are_named(plain_worker, fields, ignored):
    response = post(plain_worker, PATH, CHAT | fields)
    assert response.status_code == 200, response.text
    assert response.headers.get(IGNORED) == ignored
    assert prompt_of(plain_worker).endswith("hi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none"},
        {"reasoning": {"effort": "none"}},
        {"reasoning": {"enabled": False}},
        {"thinking": {"type": "disabled"}},
        {"enable_thinking": False},
        {"enable_thinking": False, "reasoning_effort": "high"},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"chat_template_kwargs": {"thinking": False}},
        {"chat_template_kwargs": {"reasoning_effort": "none"}},
    ],
)
def test_each_way_to_switch_the_reasoning_off(native, fields):
    response = post(native, PATH, CHAT | fields)
    assert response.status_code == 200, response.text
    assert response.headers.get(IGNORED) is None
    assert prompt_of(native).endswith("<|im_start|>assistant\n<think></think>")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "xhigh"},
        {"reasoning": {"enabled": True}},
        {"thinking": {"type": "enabled"}},
        {"enable_thinking": True, "reasoning_effort": "none"},
    ],
)
def test_each_way_to_switch_the_reasoning_on(native, fields):
    post(native, PATH, CHAT | fields)
    assert prompt_of(native).endswith("<|im_start|>assistant\n")


def test_thoughts_are_given_back_by_any_name(native):
    details = [{"type": "reasoning.text", "text": "Hm"}, {"type": "reasoning.encrypted"}]
    parts = [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Yes"}]
    for fields in (
        {"content": "Yes", "reasoning_content": "Hm"},
        {"content": "Yes", "reasoning": "Hm", "reasoning_details": details},
        {"content": "Yes", "thinking": "Hm"},
        {"content": "Yes", "reasoning_details": details},
        {"content": parts},
    ):
        messages = [*CHAT["messages"], {"role": "assistant", **fields}, *CHAT["messages"]]
        response = post(native, PATH, CHAT | {"messages": messages})
        assert response.status_code == 200, response.text
        assert "<|im_start|>assistant\n<think>Hm</think>Yes<|im_end|>" in prompt_of(native)


def test_an_agent_loop_of_two_tools_on_a_model_of_two_roles(gemma):
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Where is oil?"},
    ]
    for said, result in ((f"I look. {CALL}", "im Keller"), (CALL_NOW, None)):
        gemma.engine.answer = said
        [choice] = chat(gemma, messages=messages, tools=TOOLS).choices
        [call] = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls"
        prompt_of(gemma)
        messages.append(choice.message.model_dump())
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    gemma.engine.answer = "There."
    [choice] = chat(gemma, messages=messages, tools=TOOLS).choices
    assert choice.message.content == "There."
    asked = prompt_of(gemma)
    assert asked.startswith(
        "<start_of_turn>user\nBe kind.\n\nBe brief.\n\nYou have these tools"
    )
    assert "Sucht überall" in asked and "Where is oil?<end_of_turn>" in asked
    turns = [turn.partition("\n")[0] for turn in asked.split("<start_of_turn>")[1:]]
    assert turns == ["user", "model"] * 3
    assert f"I look.\n{CALL}" in asked and "im Keller" in asked and CALL_NOW in asked


def test_a_call_to_a_tool_that_takes_a_text_is_history(gemma):
    call = {"type": "custom", "custom": {"name": "find", "input": "Öl"}}
    messages = [
        *CHAT["messages"],
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": None},
    ]
    assert post(gemma, PATH, CHAT | {"messages": messages}).status_code == 200
    assert json.dumps({"input": "Öl"}, ensure_ascii=False) in prompt_of(gemma)
