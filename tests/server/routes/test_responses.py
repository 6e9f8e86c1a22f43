"""The Responses endpoint: inputs, tools, thoughts and forms, also through OpenAI's package."""

import dataclasses
import json

import openai
import pytest
from pydantic import BaseModel
from support import tiny
from support.contract import error_of, post
from support.responses_grammar import check_stream, read_events

from mlxnode.messages import Generate

PATH = "/v1/responses"
IGNORED = "x-mlxnode-ignored"
BASE = {"model": "tiny-chat", "input": "hi"}
LOOK = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
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
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tool_worker(start_worker, served_models, tmp_path_factory):
    """Serves "tiny-chat" with a template that knows tools and thinking; stores nothing."""
    folder = tiny.make_chat_model(
        tmp_path_factory.mktemp("models") / "tools", template=tiny.TOOL_TEMPLATE
    )
    model = dataclasses.replace(served_models[0], folder=folder, context_length=4096)
    with start_worker([model], {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def native(tool_worker):
    tool_worker.settle()
    return tool_worker


def ask(worker, **options):
    response = post(worker, PATH, BASE | options)
    assert response.status_code == 200, response.text
    return response


def refused(worker, **options) -> tuple[str, str, str]:
    response = post(worker, PATH, BASE | options)
    assert response.status_code == 400, response.text
    error = error_of(response)
    return error["param"], error["code"], error["message"]


def prompt_of(worker, **options) -> str:
    ask(worker, **options)
    return worker.engine.text(worker.engine.next(Generate).prompt)


def turns(text: str) -> list[str]:
    """The messages of a prompt, without the start of the answer."""
    return [turn.removesuffix("<|im_end|>\n") for turn in text.split("<|im_start|>")[1:-1]]


# --- input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("input", "expected"),
    [
        ("hi", ["user\nhi"]),
        ([{"role": "user", "content": "hi"}], ["user\nhi"]),
        ([{"type": "message", "role": "developer", "content": "be"}], ["system\nbe"]),
        (
            [
                {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {
                    "type": "message",
                    "id": "msg_1",
                    "status": "completed",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "b", "annotations": []}],
                },
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            ],
            ["user\na", "assistant\nb", "assistant\nno"],
        ),
        (
            [
                {"role": "user", "content": "a"},
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [],
                    "content": [{"type": "reasoning_text", "text": "Hm."}],
                },
                {"role": "assistant", "content": "I look."},
                {
                    "type": "function_call",
                    "call_id": "c1",
                    "name": "look",
                    "arguments": '{"a": 1}',
                },
                {"type": "function_call", "call_id": "c2", "name": "now", "arguments": ""},
                {"type": "function_call_output", "call_id": "c2", "output": "noon"},
                {
                    "type": "function_call_output",
                    "call_id": "c1",
                    "output": [{"type": "input_text", "text": "su"}, {"text": "nny"}],
                },
            ],
            [
                "user\na",
                "assistant\n<think>Hm.</think>I look."
                '\n<tool_call>\n{"name": "look", "arguments": {"a": 1}}\n</tool_call>'
                '\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
                "tool\nsunny",
                "tool\nnoon",
            ],
        ),
        (
            [
                {"role": "user", "content": "a"},
                {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "+x"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
                {"type": "local_shell_call", "call_id": "d", "action": {"command": ["ls"]}},
                {"type": "local_shell_call_output", "call_id": "d", "output": "file"},
            ],
            [
                "user\na",
                "assistant\n"
                '\n<tool_call>\n{"name": "patch", "arguments": {"input": "+x"}}\n</tool_call>',
                "tool\ndone",
                "assistant\n\n<tool_call>\n"
                '{"name": "local_shell", "arguments": {"command": ["ls"]}}\n</tool_call>',
                "tool\nfile",
            ],
        ),
    ],
    ids=[
        "text",
        "easy",
        "developer",
        "parts",
        "an answer with all",
        "tools that run elsewhere",
    ],
)
def test_items_become_messages(native, input, expected):
    assert turns(prompt_of(native, input=input)) == expected


def test_instructions_are_the_first_message(native):
    text = prompt_of(native, instructions="Be brief.", input="hi")
    assert turns(text) == ["system\nBe brief.", "user\nhi"]


def test_thoughts_of_two_answers_stay_apart(native):
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "One."}]}
    other = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Two."}]}
    answer = {"role": "assistant", "content": "Yes."}
    text = prompt_of(native, input=[thought, answer, other, answer])
    assert turns(text) == [
        "assistant\n<think>One.</think>Yes.",
        "assistant\n<think>Two.</think>Yes.",
    ]


def test_items_of_unknown_tools_are_named_and_change_nothing(native):
    items = [
        {"role": "user", "content": "hi"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"q": 1}},
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAAABo"},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_image", "image_url": "data:,"}],
        },
    ]
    response = ask(native, input=items)
    named = response.headers[IGNORED]
    for name in (
        "input[1] (web_search_call)",
        "input[2] (compaction)",
        "input[3].encrypted_content",
        "input[4].output[0]",
    ):
        assert name in named
    assert "<think>" not in native.engine.text(native.engine.next(Generate).prompt)


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "empty_prompt"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content", "invalid_type"),
        ({"input": [{"role": "robot", "content": ""}]}, "input[0].role", "unsupported_value"),
        ({"input": [{"content": "x"}]}, "input[0].role", "missing_required_parameter"),
        ({"input": [{"type": 3}]}, "input[0].type", "invalid_type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
            "unsupported_value",
        ),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", None),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "response_store_off"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
        ({"n": 2}, "n", "invalid_parameter_combination"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_parameter_combination"),
        (
            {"tools": [LOOK], "tool_choice": {"type": "function", "name": "x"}},
            "tool_choice",
            "unsupported_value",
        ),
        (
            {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}},
            "tool_choice.type",
            "unsupported_value",
        ),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema", None),
        (
            {
                "response_format": {"type": "json_object"},
                "text": {"format": {"type": "json_schema", "schema": {"type": "array"}}},
            },
            "response_format",
            None,
        ),
        ({"max_output_tokens": 0}, "max_output_tokens", None),
        ({"truncation": "some"}, "truncation", "unsupported_value"),
        ({"input": "x" * 5000}, "input", "context_length_exceeded"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_name(native, options, param, code):
    named, found, _ = refused(native, **options)
    assert named == param and code in (None, found)


def test_store_that_is_off_is_told(native):
    response = ask(native, store=True)
    assert response.json()["store"] is False and response.headers[IGNORED] == "store"
    assert IGNORED not in ask(native).headers
    assert "response_store" in refused(native, previous_response_id="resp_1")[2]
    id = response.json()["id"]
    with pytest.raises(openai.NotFoundError, match="response_store"):
        native.client().responses.retrieve(id)


# --- tools ------------------------------------------------------------------------------


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


# --- thoughts ---------------------------------------------------------------------------


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


# --- forms and parameters ---------------------------------------------------------------


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
    named = "service_tier, text.verbosity, max_tool_calls, include (web_search_call.results)"
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


# --- truncation -------------------------------------------------------------------------


def test_the_oldest_turns_are_left_out_where_the_request_allows(native):
    items = [{"role": "developer", "content": "Stay."}]
    for number in range(40):
        items.append({"role": "user", "content": f"question {number} " + "x" * 150})
        items.append({"role": "assistant", "content": f"answer {number}"})
    items.append({"role": "user", "content": "last"})
    assert refused(native, input=items)[:2] == ("input", "context_length_exceeded")
    told = turns(prompt_of(native, input=items, truncation="auto", instructions="Be."))
    assert told[:2] == ["system\nBe.", "system\nStay."] and told[-1] == "user\nlast"
    assert told[2].startswith("user\nquestion") and "question 0" not in "".join(told)
    size = len("".join(told))
    assert 4096 * 0.6 < size < 4096 * 0.75


def test_a_last_turn_that_is_too_long_is_refused(native):
    input = [{"role": "user", "content": "a"}, {"role": "user", "content": "x" * 5000}]
    named = refused(native, input=input, truncation="auto")
    assert named[:2] == ("input", "context_length_exceeded")
