"""Tools and functions, the older tools: their rows of docs/compatibility.md."""

import json

import pytest
from support.contract import CHAT, CHATS, asked, chat, error_of, post

from mlxnode.messages.data import Generate

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


# --- functions, the older tools -------------------------------------------------------

FIND = {"name": "find", "description": "Finds", "parameters": SCHEMA}
CALL = '<tool_call>\n{"name": "find", "arguments": {"a": 1}}\n</tool_call>'


def test_functions_are_tools_and_answered_in_their_own_shape(native):
    native.engine.answer = f"I look.\n{CALL}"
    [choice] = chat(native, functions=[FIND]).choices
    called = choice.message.function_call
    assert (choice.finish_reason, choice.message.content) == ("function_call", "I look.")
    assert (called.name, json.loads(called.arguments)) == ("find", {"a": 1})
    assert choice.message.tool_calls is None
    assert '"name": "find"' in native.engine.text(native.engine.next(Generate).prompt)

    history = [
        *CHAT["messages"],
        choice.message.model_dump(exclude_none=True),
        {"role": "function", "name": "find", "content": "there"},
    ]
    native.engine.answer = "Found."
    [choice] = chat(native, messages=history, functions=[FIND]).choices
    assert (choice.finish_reason, choice.message.content) == ("stop", "Found.")
    told = native.engine.text(native.engine.next(Generate).prompt)
    assert CALL in told and "<|im_start|>tool\nthere<|im_end|>" in told


def test_functions_stream_in_their_own_shape(native):
    native.engine.answer = CALL
    chunks = list(chat(native, functions=[FIND], stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    calls = [delta.function_call for delta in deltas if delta.function_call]
    assert [call.name for call in calls if call.name] == ["find"]
    assert json.loads("".join(call.arguments for call in calls)) == {"a": 1}
    assert chunks[-1].choices[0].finish_reason == "function_call"
    assert not any(delta.tool_calls for delta in deltas)


@pytest.mark.parametrize(
    ("choice", "enforced", "told"),
    [
        ("none", False, False),
        ("auto", False, True),
        (None, False, True),
        ({"name": "find"}, True, True),
    ],
)
def test_function_call_chooses_as_tool_choice_does(native, choice, enforced, told):
    native.engine.answer = CALL if enforced else "No."
    message, ignored = asked(native, functions=[FIND], function_call=choice)
    assert (message.sampling.grammar is not None, ignored) == (enforced, None)
    assert ('"name": "find"' in native.engine.text(message.prompt)) == told


# --- tools ----------------------------------------------------------------------------


def tools_named(*names: str, **facts) -> list[dict]:
    return [{"type": "function", "function": {"name": name, **facts}} for name in names]


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "b"}},
        {"type": "function", "name": "b"},
        {"function": {"name": "b"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "b"}}],
            },
        },
    ],
)
def test_every_choice_of_one_tool_is_understood(native, choice):
    native.engine.answer = '<tool_call>\n{"name": "b", "arguments": {}}\n</tool_call>'
    message, _ = asked(native, tools=tools_named("a", "b"), tool_choice=choice)
    prompt = native.engine.text(message.prompt)
    assert message.sampling.grammar and '"name": "b"' in prompt and '"name": "a"' not in prompt


def test_some_allowed_tools_need_not_be_called(native):
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "b"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    message, _ = asked(native, tools=tools_named("a", "b"), tool_choice=choice)
    assert message.sampling.grammar is None
    assert '"name": "a"' not in native.engine.text(message.prompt)
    choice["allowed_tools"]["tools"][0]["function"]["name"] = "c"
    response = post(
        native, CHATS, CHAT | {"tools": tools_named("a", "b"), "tool_choice": choice}
    )
    assert error_of(response)["param"] == "tool_choice"


@pytest.mark.parametrize("strict", [True, "true", "True"])
def test_strict_may_be_a_text(native, strict):
    message, ignored = asked(native, tools=tools_named("a", parameters=SCHEMA, strict=strict))
    assert message.sampling.grammar is not None and ignored is None


@pytest.mark.parametrize("parameters", [[], {}, None, json.dumps({"type": "object"})])
def test_parameters_may_be_an_empty_array_or_text(native, parameters):
    message, ignored = asked(native, tools=tools_named("a", parameters=parameters))
    assert '"name": "a"' in native.engine.text(message.prompt) and ignored is None


@pytest.mark.parametrize(
    "result",
    [
        {"content": None},
        {},
        {"content": []},
        {"content": ""},
        {"content": [{"type": "text", "text": None}]},
    ],
)
def test_an_empty_result_of_a_tool_is_understood(native, result):
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    messages = [
        *CHAT["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", **result},
    ]
    message, _ = asked(native, messages=messages)
    assert "<|im_start|>tool\n<|im_end|>" in native.engine.text(message.prompt)


def test_a_part_may_have_its_text_as_content(plain_worker):
    part = {"type": "text", "content": "Guten Tag"}
    message, ignored = asked(plain_worker, messages=[{"role": "user", "content": [part]}])
    assert "Guten Tag" in plain_worker.engine.text(message.prompt) and ignored is None


LONG = "mcp__" + "filesystem_" * 8 + "read"


@pytest.mark.parametrize(
    "name", ["files.read", "files/read:text", LONG, LONG + ".all", "größe", "read file", "a\n"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_names_of_tools_are_mapped_both_ways(native, name, stream):
    other = tools_named("other")
    message, _ = asked(native, tools=tools_named(name) + other)
    prompt = native.engine.text(message.prompt)
    told = json.loads(prompt.split("\n")[1])["function"]["name"]
    assert told.replace("_", "").replace("-", "").isalnum() and len(told) <= 64

    answer = f'<tool_call>\n{{"name": "{told}", "arguments": {{}}}}\n</tool_call>'
    native.engine.answer = answer
    named = {"type": "function", "function": {"name": name}}
    options = {"tools": tools_named(name) + other, "stream": stream}
    for choice in ("auto", named):
        answered = chat(native, tool_choice=choice, **options)
        calls = (
            [call for chunk in answered for call in chunk.choices[0].delta.tool_calls or ()]
            if stream
            else answered.choices[0].message.tool_calls
        )
        assert calls[0].function.name == name
        native.engine.next(Generate)

    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    history = [
        *CHAT["messages"],
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "name": name, "content": "x"},
    ]
    message, _ = asked(native, messages=history, tools=tools_named(name) + other)
    assert answer in native.engine.text(message.prompt)


def test_two_names_of_tools_stay_two(native):
    tools = tools_named("a.b", "a/b", "a_b")
    message, _ = asked(native, tools=tools)
    prompt = native.engine.text(message.prompt)
    told = [json.loads(line)["function"]["name"] for line in prompt.split("\n")[1:4]]
    assert len(set(told)) == 3 and told[2] == "a_b"
    for name, own in zip(("a.b", "a/b", "a_b"), told, strict=True):
        native.engine.answer = f'<tool_call>{{"name": "{own}", "arguments": {{}}}}</tool_call>'
        [choice] = chat(native, tools=tools).choices
        assert choice.message.tool_calls[0].function.name == name
