"""The rows of docs/compatibility.md: what clients send, and what the node makes of it."""

import dataclasses
import json

import pytest
from support import tiny
from support.contract import CHAT, CHATS, COMPLETION, TEXTS, chat, error_of, post

from mlxnode.messages import Generate

IGNORED = "x-mlxnode-ignored"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
GBNF = 'root ::= "yes" | "no"'


@pytest.fixture(scope="module")
def tool_worker(start_worker, served_models, tmp_path_factory):
    """Serves "tiny-chat", but with a template that knows tools and thinking."""
    folder = tiny.make_chat_model(
        tmp_path_factory.mktemp("models") / "tools", template=tiny.TOOL_TEMPLATE
    )
    model = dataclasses.replace(served_models[0], folder=folder, context_length=4096)
    with start_worker([model, served_models[1]], {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def native(tool_worker):
    tool_worker.settle()
    return tool_worker


def asked(worker, path=CHATS, body=CHAT, **fields) -> tuple[Generate, str | None]:
    """What the engine is asked for a request with ``fields``, and the ignored ones."""
    response = post(worker, path, body | fields)
    assert response.status_code == 200, response.text
    return worker.engine.next(Generate), response.headers.get(IGNORED)


def grammar_of(worker, path=CHATS, body=CHAT, **fields) -> str | None:
    message, ignored = asked(worker, path, body, **fields)
    assert ignored is None
    return message.sampling.grammar


# --- limits and stops -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 9, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 6, "max_completion_tokens": 7}, 6),
        ({"max_tokens": -1, "max_completion_tokens": 7}, 7),
        ({"max_tokens": "8"}, 8),
        ({"n_predict": 5}, 5),
        ({"num_predict": 5}, 5),
        ({"max_new_tokens": 5, "max_tokens": None}, 5),
    ],
)
def test_every_spelling_of_the_limit_is_understood(plain_worker, fields, expected):
    message, ignored = asked(plain_worker, **fields)
    assert (message.max_tokens, ignored) == (expected, None)


@pytest.mark.parametrize(
    "fields", [{"max_tokens": -1}, {"max_completion_tokens": -1}, {"n_predict": -1}]
)
def test_a_limit_of_minus_one_is_no_limit(plain_worker, fields):
    unlimited, _ = asked(plain_worker)
    assert asked(plain_worker, **fields)[0].max_tokens == unlimited.max_tokens


@pytest.mark.parametrize("name", ["max_tokens", "n_predict"])
def test_a_limit_of_minus_one_is_more_than_the_default_of_completions(plain_worker, name):
    default, _ = asked(plain_worker, TEXTS, COMPLETION)
    assert default.max_tokens == 16
    message, ignored = asked(plain_worker, TEXTS, COMPLETION | {name: -1})
    assert message.max_tokens > 16 and ignored is None


@pytest.mark.parametrize(
    ("logprobs", "expected"), [(True, 0), (False, None), ("true", 0), ("2", 2), (0, 0)]
)
def test_logprobs_of_completions_may_be_a_boolean(plain_worker, logprobs, expected):
    message, _ = asked(plain_worker, TEXTS, COMPLETION | {"logprobs": logprobs})
    assert message.sampling.top_logprobs == expected


@pytest.mark.parametrize(
    ("stop", "content"),
    [
        ("", "Hello!"),
        ([""], "Hello!"),
        ([], "Hello!"),
        (["", "l"], "He"),
        ([*"xyzuvwabcl"], "He"),
        (["zz"] * 63 + ["o"], "Hell"),
    ],
)
@pytest.mark.parametrize("name", ["stop", "stop_sequences"])
def test_many_stops_and_empty_ones_are_understood(plain_worker, name, stop, content):
    response = post(plain_worker, CHATS, CHAT | {name: stop})
    assert response.json()["choices"][0]["message"]["content"] == content


# --- fields that change nothing -------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"store": True}, "store"),
        ({"store": False, "verbosity": "medium", "prompt_cache_key": "k"}, None),
        ({"verbosity": "high"}, "verbosity"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": "auto"}, None),
        ({"stream_options": {"include_usage": True}}, None),
        ({"stream_options": {"include_obfuscation": False}}, None),
        (
            {"stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        ({"metadata": {"session": 5, "tags": ["x" * 600]}}, None),
        ({"user": 7}, None),
        ({"logprobs": False, "top_logprobs": 3}, "top_logprobs"),
        ({"guided_json": {}, "guided_decoding_backend": "auto"}, "guided_decoding_backend"),
        ({"max_tokens": 4, "n_predict": 6}, "n_predict"),
        ({"max_tokens": 4, "n_predict": 4}, None),
        ({"dry_multiplier": 0, "typical_p": 1, "xtc_probability": 0, "options": {}}, ...),
    ],
)
def test_what_changes_nothing_is_accepted_and_named(plain_worker, fields, ignored):
    named = ", ".join(fields) if ignored is ... else ignored
    assert asked(plain_worker, **fields)[1] == named


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"best_of": 3}, "best_of"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(plain_worker, fields, param):
    response = post(plain_worker, CHATS, CHAT | fields)
    assert response.status_code == 400
    assert error_of(response)["param"] == param


# --- sampling -------------------------------------------------------------------------


def test_sampling_fields_of_other_servers_are_understood(plain_worker):
    message, ignored = asked(plain_worker, repeat_penalty=1.25, random_seed=5)
    assert (message.sampling.repetition_penalty, message.sampling.seed) == (1.25, 5)
    assert ignored is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"top_logprobs": 2}, 2),
        ({"logprobs": 3}, 3),
        ({"logprobs": True}, 0),
        ({"logprobs": "true", "top_logprobs": "4"}, 4),
        ({"logprobs": None, "top_logprobs": 0}, None),
    ],
)
def test_logprobs_are_asked_for_in_one_field_or_two(plain_worker, fields, expected):
    message, _ = asked(plain_worker, **fields)
    assert message.sampling.top_logprobs == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "0.5", "top_p": "0.25", "seed": "7", "stream": "false"},
        {"temperature": 0.5, "top_p": 0.25, "seed": 7.0, "tools": {}, "logit_bias": []},
        {"temperature": "5e-1", "top_p": "0.25", "seed": 7, "stream_options": []},
        {"temperature": 0.5, "top_p": "0.25", "seed": "7", "chat_template_kwargs": []},
    ],
)
def test_values_of_another_type_with_one_meaning_are_understood(plain_worker, fields):
    message, ignored = asked(plain_worker, **fields)
    sampling = message.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.5, 0.25, 7)
    assert ignored is None


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": "warm"}, "temperature", "invalid_type"),
        ({"temperature": "3"}, "temperature", "decimal_above_max_value"),
        ({"seed": "1.5"}, "seed", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream": 1}, "stream", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"tools": {"a": 1}}, "tools", "invalid_type"),
        ({"stream_options": ["include_usage"]}, "stream_options", "invalid_type"),
        ({"messages": {}}, "messages", "array_below_min_length"),
        ({"repeat_penalty": "a"}, "repeat_penalty", "invalid_type"),
        ({"repetition_penalty": 1, "repeat_penalty": "a"}, "repeat_penalty", "invalid_type"),
    ],
)
def test_values_with_no_single_meaning_are_refused(plain_worker, fields, param, code):
    response = post(plain_worker, CHATS, CHAT | fields)
    error = error_of(response)
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)


# --- the form of an answer ------------------------------------------------------------

FORMS_OF_A_SCHEMA = {
    "json_object with schema": {"response_format": {"type": "json_object", "schema": SCHEMA}},
    "json_schema beside its schema": {
        "response_format": {"type": "json_schema", "schema": SCHEMA}
    },
    "json_schema that is the schema": {
        "response_format": {"type": "json_schema", "json_schema": SCHEMA}
    },
    "json_schema without a name": {
        "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    },
    "json_schema with a space in its name": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "my answer", "schema": SCHEMA, "strict": "false"},
        }
    },
    "schema as text": {
        "response_format": {"type": "json_object", "schema": json.dumps(SCHEMA)}
    },
    "json with value": {"response_format": {"type": "json", "value": SCHEMA}},
    "json_schema": {"json_schema": SCHEMA},
    "format": {"format": SCHEMA},
    "guided_json": {"guided_json": SCHEMA},
    "guided_json as text": {"guided_json": json.dumps(SCHEMA)},
    "structured_outputs": {"structured_outputs": {"json": SCHEMA}},
    "twice the same": {"format": SCHEMA, "response_format": {"type": "json", "value": SCHEMA}},
}


@pytest.mark.parametrize("path", [CHATS, TEXTS])
@pytest.mark.parametrize("fields", FORMS_OF_A_SCHEMA.values(), ids=FORMS_OF_A_SCHEMA)
def test_every_place_of_a_schema_is_understood(plain_worker, path, fields):
    body = CHAT if path == CHATS else COMPLETION
    usual = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    expected = grammar_of(plain_worker, path, body, response_format=usual)
    assert expected is not None and '"properties"' in expected
    assert grammar_of(plain_worker, path, body, **fields) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "json"},
        {"structured_outputs": {"json_object": True}},
        {"response_format": {"type": "json"}},
    ],
)
def test_every_wish_for_json_is_understood(plain_worker, fields):
    expected = grammar_of(plain_worker, response_format={"type": "json_object"})
    assert grammar_of(plain_worker, **fields) == expected


@pytest.mark.parametrize(
    ("fields", "usual"),
    [
        ({"structured_outputs": {"regex": "[0-9]+"}}, {"guided_regex": "[0-9]+"}),
        ({"response_format": {"type": "regex", "value": "a|b"}}, {"guided_regex": "a|b"}),
        ({"structured_outputs": {"choice": ["a", "b"]}}, {"guided_choice": ["a", "b"]}),
        ({"structured_outputs": {"grammar": GBNF}}, {"guided_grammar": GBNF}),
        ({"response_format": {"type": "grammar", "grammar": GBNF}}, {"guided_grammar": GBNF}),
        ({"grammar": GBNF}, {"guided_grammar": 'start: "yes" | "no"'}),
        ({"grammar": ""}, {}),
        ({"format": ""}, {}),
        ({"structured_outputs": {}}, {}),
        ({"structured_outputs": {"json_object": False}}, {}),
    ],
)
def test_every_spelling_of_a_form_is_understood(plain_worker, fields, usual):
    def normal(grammar: str | None) -> str | None:
        return grammar and " ".join(grammar.split())

    assert normal(grammar_of(plain_worker, **fields)) == normal(
        grammar_of(plain_worker, **usual)
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"grammar": GBNF, "json_schema": SCHEMA}, "grammar"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
        ({"format": SCHEMA, "response_format": {"type": "json_object"}}, "format"),
    ],
)
def test_two_forms_that_differ_are_refused(plain_worker, fields, param):
    response = post(plain_worker, CHATS, CHAT | fields)
    error = error_of(response)
    assert (error["param"], error["code"]) == (param, "invalid_parameter_combination")


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


# --- reasoning ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"think": False},
        {"think": "none"},
        {"think": "false"},
        {"thinking": False},
        {"thinking": {"type": "disabled"}},
        {"reasoning": {"effort": "none"}},
        {"enable_thinking": False},
        {"enable_thinking": "false"},
    ],
)
def test_every_way_to_switch_the_reasoning_off_is_understood(native, fields):
    message, ignored = asked(native, **fields)
    assert native.engine.text(message.prompt).endswith("<think></think>") and ignored is None


@pytest.mark.parametrize(
    "fields",
    [
        {"think": True},
        {"think": "high"},
        {"thinking": {}},
        {"thinking": []},
        {"thinking": {"type": "auto"}},
        {"reasoning": {}},
        {"reasoning_effort": "default"},
        {"reasoning_effort": "auto"},
        {"reasoning_effort": ""},
    ],
)
def test_reasoning_that_is_on_or_left_to_the_model_is_understood(native, fields):
    message, ignored = asked(native, **fields)
    assert native.engine.text(message.prompt).endswith("assistant\n") and ignored is None


@pytest.mark.parametrize(
    "name", ["thinking_budget_tokens", "reasoning_budget_tokens", "thinking_token_budget"]
)
def test_every_budget_of_reasoning_is_understood(native, name):
    message, ignored = asked(native, **{name: 5})
    assert message.sampling.thinking.max_tokens == 5 and ignored is None


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"think": "low"}, "think"),
        ({"think": True}, "think"),
        ({"thinking": True}, "thinking"),
        (
            {"chat_template_kwargs": {"no-such-name": 1, "other": 2}},
            "chat_template_kwargs.no-such-name, chat_template_kwargs.other",
        ),
    ],
)
def test_reasoning_that_a_model_cannot_switch_is_named(plain_worker, fields, ignored):
    assert asked(plain_worker, **fields)[1] == ignored
