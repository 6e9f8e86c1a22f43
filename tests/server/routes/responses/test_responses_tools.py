"""Tools of /v1/responses: loops, namespaces and choices."""

import json

import pytest
from support.contract import IGNORED
from support.named_events import read_events
from support.responses_grammar import check_stream
from support.responses_requests import BASE, CALL, LOOK, ask, prompt_of, turns

from mlxnode.messages.data import Generate

AGENTS = {
    "type": "namespace",
    "name": "agents_v1",
    "description": "Tools for agents.",
    "tools": [
        {"type": "function", "name": "spawn", "description": "Starts one.", "parameters": {}},
        {"type": "function", "name": "get_weather", "parameters": {}},
        {"type": "computer"},
    ],
}


def test_a_tool_loop_goes_on_with_the_items_of_the_answer(native):
    client = native.client()
    native.engine.answer = f"<think>Hm.</think>I look.\n{CALL}"
    first = client.responses.create(**BASE, tools=[LOOK])
    kinds = [item.type for item in first.output]
    assert kinds == ["reasoning", "message", "function_call"]
    call = first.output[-1]
    assert json.loads(call.arguments) == {"city": "Bern"} and call.status == "completed"
    native.engine.next(Generate)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    native.engine.answer = "Sunny."
    input = [{"role": "user", "content": "hi"}, *first.output, result]
    second = client.responses.create(model="tiny-chat", input=input, tools=[LOOK])
    assert second.output_text == "Sunny."
    *_, said, told = turns(native.engine.text(native.engine.next(Generate).prompt))
    assert said == f"assistant\n<think>Hm.</think>I look.\n{CALL}" and told == "tool\nsunny"


def test_tools_are_enforced_where_they_are_strict(native):
    native.engine.answer = CALL
    ask(native, tools=[LOOK])
    assert native.engine.next(Generate).sampling.grammar is not None
    ask(native, tools=[{**LOOK, "strict": False}])
    assert native.engine.next(Generate).sampling.grammar is None
    ask(native, tools=[{**LOOK, "strict": None}], tool_choice="required")
    assert native.engine.next(Generate).sampling.grammar is not None


def test_tools_of_a_namespace_are_called_by_their_address(native):
    native.engine.answer = CALL.replace("get_weather", "agents_v1__spawn")
    response = ask(native, tools=[LOOK, AGENTS, {"type": "web_search"}], stream=True)
    [item] = check_stream(read_events(response.content))["output"]
    assert (item["name"], item["namespace"]) == ("spawn", "agents_v1")
    assert response.headers[IGNORED] == "tools[1].tools[2] (computer), tools[2] (web_search)"
    prompt = native.engine.text(native.engine.next(Generate).prompt)
    assert "Tools for agents.\\n\\nStarts one." in prompt
    assert '"agents_v1__get_weather"' in prompt and '"get_weather"' in prompt
    text = prompt_of(native, input=[{"role": "user", "content": "hi"}, item])
    assert "agents_v1__spawn" in text


def test_two_functions_of_one_name_stay_apart(native):
    flat = {"type": "function", "name": "a__b"}
    space = {"type": "namespace", "name": "a", "tools": [{"type": "function", "name": "b"}]}
    native.engine.answer = CALL.replace("get_weather", "a__b_")
    [item] = ask(native, tools=[flat, space]).json()["output"]
    assert (item["name"], item["namespace"]) == ("b", "a")
    native.engine.answer = CALL.replace("get_weather", "a__b")
    [item] = ask(native, tools=[flat, space]).json()["output"]
    assert item["name"] == "a__b" and "namespace" not in item


@pytest.mark.parametrize(
    ("choice", "offered", "must_call"),
    [
        ("none", [], False),
        ("auto", ["get_weather", "now"], False),
        ("required", ["get_weather", "now"], True),
        ({"type": "function", "name": "now"}, ["now"], True),
        ({"type": "function", "function": {"name": "now"}}, ["now"], True),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "now"}, {"type": "mcp"}],
            },
            ["now"],
            False,
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "get_weather"}],
            },
            ["get_weather"],
            True,
        ),
    ],
    ids=str,
)
def test_tool_choice(native, choice, offered, must_call):
    tools = [{**LOOK, "strict": False}, {"type": "function", "name": "now"}]
    ask(native, tools=tools, tool_choice=choice)
    message = native.engine.next(Generate)
    prompt = native.engine.text(message.prompt)
    assert [name for name in ("get_weather", "now") if f'"{name}"' in prompt] == offered
    assert (message.sampling.grammar is not None) == must_call


def test_tools_as_chat_completions_have_them_are_understood(native):
    native.engine.answer = CALL
    function = {key: value for key, value in LOOK.items() if key != "type"}
    answer = ask(native, tools=[{"type": "function", "function": function}]).json()
    assert answer["tools"] == [LOOK] and answer["output"][0]["name"] == "get_weather"


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_calls_of_an_answer_can_be_limited(native, limit):
    cities = ["Bern", "Genf", "Chur"]
    native.engine.answer = "\n".join(CALL.replace("Bern", city) for city in cities)
    response = ask(native, tools=[LOOK], max_tool_calls=limit).json()
    called = [json.loads(item["arguments"])["city"] for item in response["output"]]
    assert called == cities[:limit] and response["status"] == "completed"
