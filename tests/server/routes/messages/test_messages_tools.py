"""Tools of /v1/messages: those that are offered, choices, calls and changes."""

import pytest
from support.contract import IGNORED
from support.messages_requests import (
    OTHER,
    SEARCH,
    TOOL,
    USE,
    USER,
    ask,
    prompt_of,
    refused,
    said,
    text,
)

from mlxnode.messages.data import Generate


def test_tools_of_anthropics_servers_are_named(native):
    response = ask(native, tools=[SEARCH, TOOL])
    ignored = response.headers[IGNORED]
    assert "tools[0] (web_search_20250305)" in ignored
    prompt = native.engine.text(native.engine.next(Generate).prompt)
    assert '"f"' in prompt and "web_search" not in prompt


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"type": "tool", "name": "web_search"}, "web_search"),
        ({"type": "tool", "name": "nobody"}, "nobody"),
        ({"type": "tool"}, "tool_choice.name"),
        ({"type": "some"}, "tool_choice.type"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(native, choice, words):
    error = refused(native, tools=[SEARCH, TOOL], tool_choice=choice)
    assert words in error["message"]
    assert error["details"]["param"].startswith("tool_choice")


@pytest.mark.parametrize("tools", [[SEARCH], [], None])
def test_any_tool_needs_a_tool(native, tools):
    refused(native, tools=tools, tool_choice={"type": "any"})
    ask(native, tools=tools, tool_choice={"type": "auto"})


@pytest.mark.parametrize(
    ("choice", "is_constrained", "told"),
    [
        ({"type": "auto"}, False, {"f", "g"}),
        ({"type": "any"}, True, {"f", "g"}),
        ({"type": "tool", "name": "g"}, True, {"g"}),
        ({"type": "none"}, False, set()),
    ],
)
def test_a_choice_of_tools(native, choice, is_constrained, told):
    native.engine.answer = '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
    ask(native, tools=[TOOL, OTHER], tool_choice=choice)
    message = native.engine.next(Generate)
    prompt = native.engine.text(message.prompt)
    assert {name for name in "fg" if f'"name": "{name}"' in prompt} == told
    if is_constrained:
        assert message.sampling.grammar is not None


@pytest.mark.parametrize(
    ("blocks", "told"),
    [
        ([{"type": "tool_removal", "tool": {"type": "tool_reference", "name": "f"}}], "g"),
        ([{"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}}], "fg"),
        (
            [
                {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "f"}},
                text("Now."),
                {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}},
            ],
            "fg",
        ),
        (
            [
                {
                    "type": "tool_addition",
                    "tool": {"type": "tool_definition", "definition": TOOL | {"name": "h"}},
                }
            ],
            "fgh",
        ),
        ([{"type": "tool_removal", "tool": {"type": "tool_reference", "name": "z"}}], "fg"),
    ],
)
def test_tools_change_within_the_conversation(native, blocks, told):
    messages = [USER, {"role": "system", "content": blocks}, USER]
    prompt = prompt_of(native, messages=messages, tools=[TOOL, OTHER | {"defer_loading": True}])
    assert {name for name in "fgh" if f'"name": "{name}"' in prompt} == set(told)
    assert "<|im_start|>system\n<|im_end|>" not in prompt


@pytest.mark.parametrize("content", ["", []])
def test_messages_that_say_nothing_are_answered(native, content):
    for role in ("system", "user", "assistant"):
        ask(native, messages=[{"role": role, "content": content}])


def test_a_reference_to_a_tool_is_told(native):
    found = {"type": "tool_reference", "tool_name": "g"}
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [found]}
    messages = [USER, {"role": "assistant", "content": [USE]}, *said(block)]
    response = ask(native, messages=messages, tools=[TOOL, OTHER])
    assert IGNORED not in response.headers
    prompt = native.engine.text(native.engine.next(Generate).prompt)
    assert "tool\n[tool_reference: g]" in prompt


@pytest.mark.parametrize("is_alone", [False, True])
def test_several_calls_unless_the_client_wants_one(native, is_alone):
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    native.engine.answer = f"{call}\n{call}"
    choice = {"type": "auto", "disable_parallel_tool_use": is_alone}
    answer = ask(native, tools=[TOOL], tool_choice=choice).json()
    assert len(answer["content"]) == (1 if is_alone else 2)
    assert len({block["id"] for block in answer["content"]}) == len(answer["content"])


def test_a_call_that_is_cut_has_what_is_complete(native):
    native.engine.answer = (
        '<tool_call>\n{"name": "f", "arguments": {"a": 1, "b": "long text that is cut"}}'
    )
    tool = {"name": "f", "input_schema": {"type": "object", "additionalProperties": True}}
    answer = ask(native, tools=[tool], max_tokens=len(native.engine.answer) - 12).json()
    assert answer["stop_reason"] == "max_tokens"
    for block in answer["content"]:
        assert block["type"] == "text" or block["input"] in ({}, {"a": 1})
