"""What Anthropic's API says of /v1/messages, against a worker."""

import dataclasses
import json

import httpx2 as httpx
import pytest
from support import tiny
from support.contract import post
from support.messages_grammar import MessageStream, events_of

from mlxnode.messages import Generate, Limit, Reserved, Token, Tokens, Update

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
USER = {"role": "user", "content": "hi"}
ASK = {"model": "tiny-chat", "max_tokens": 400, "messages": [USER]}
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
OTHER = {"name": "g", "input_schema": {"type": "object", "properties": {}}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
MARK = {"cache_control": {"type": "ephemeral"}}
VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def tool_worker(start_worker, served_models, tmp_path_factory):
    """Serves "tiny-chat", but with a template that knows tools and thinking."""
    folder = tmp_path_factory.mktemp("models") / "tools"
    model = dataclasses.replace(
        served_models[0],
        folder=tiny.make_chat_model(folder, template=tiny.TOOL_TEMPLATE),
        context_length=8192,
    )
    with start_worker([model], {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def native(tool_worker):
    tool_worker.settle()
    return tool_worker


def ask(worker, **body) -> httpx.Response:
    response = post(worker, MESSAGES, ASK | body)
    assert response.status_code == 200, response.text
    return response


def prompt_of(worker, **body) -> str:
    ask(worker, **body)
    return worker.engine.text(worker.engine.next(Generate).prompt)


def said(*blocks) -> list[dict]:
    return [{"role": "user", "content": list(blocks)}]


def text(text: str, **more) -> dict:
    return {"type": "text", "text": text} | more


def refused(worker, path=MESSAGES, **body) -> dict:
    response = post(worker, path, ASK | body)
    assert response.status_code == 400, response.text
    answer = response.json()
    assert answer["type"] == "error" and answer["request_id"] == response.headers["request-id"]
    return answer["error"]


# --- the prompt -----------------------------------------------------------------------------


def test_system_is_a_text_or_blocks(native):
    alone = prompt_of(native, system="Be brief.")
    assert alone.startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert prompt_of(native, system=[text("Be brief.", **MARK)]) == alone
    both = prompt_of(native, system=[text("Be brief."), text("Be kind.")])
    assert "Be brief.\n\nBe kind." in both


def test_a_system_role_within_the_messages_keeps_its_place(native):
    messages = [USER, {"role": "assistant", "content": "yes"}, USER]
    messages.insert(1, {"role": "system", "content": "Be brief."})
    prompt = prompt_of(native, messages=messages)
    assert prompt.index("hi") < prompt.index("Be brief.") < prompt.index("yes")


def test_a_billing_line_that_changes_is_no_part_of_the_prompt(native):
    def system(number: int) -> list[dict]:
        line = f"x-anthropic-billing-header: cc_version=2.1.{number}; cch={number};"
        return [text(line), text("Be brief.", **MARK)]

    assert prompt_of(native, system=system(1)) == prompt_of(native, system=system(2))


def test_an_answer_at_the_end_is_continued(native):
    messages = [USER, {"role": "assistant", "content": "The answer is ("}]
    assert prompt_of(native, messages=messages).endswith("assistant\nThe answer is (")


def test_a_round_of_tools_is_told(native):
    messages = [
        USER,
        {"role": "assistant", "content": [text("I look."), USE]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "7 degrees"},
                text("Well?"),
            ],
        },
    ]
    prompt = prompt_of(native, messages=messages, tools=[TOOL])
    places = ["I look.", '"arguments": {"a": 1}', "tool\n7 degrees", "user\nWell?"]
    assert sorted(places, key=prompt.index) == places


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"content": "7"}, "tool\n7<|im_end|>"),
        ({"content": [text("7"), text("8")]}, "tool\n7\n8<|im_end|>"),
        ({}, "tool\n<|im_end|>"),
        ({"content": None}, "tool\n<|im_end|>"),
        ({"content": []}, "tool\n<|im_end|>"),
        ({"content": "no such file", "is_error": True}, "tool\nError: no such file"),
        ({"content": "Error: no such file", "is_error": True}, "tool\nError: no such file"),
        ({"content": [text("7"), {"type": "image", "source": {}}]}, "7\n[image: not shown"),
    ],
)
def test_a_result_in_each_of_its_forms(native, result, told):
    block = {"type": "tool_result", "tool_use_id": "toolu_1"} | result
    messages = [USER, {"role": "assistant", "content": [USE]}, *said(block)]
    assert told in prompt_of(native, messages=messages, tools=[TOOL])


def test_a_picture_in_a_result_is_named(native):
    picture = {"type": "image", "source": {"type": "base64", "data": "AA=="}}
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [picture]}
    messages = [USER, {"role": "assistant", "content": [USE]}, *said(block)]
    ignored = ask(native, messages=messages, tools=[TOOL]).headers["x-mlxnode-ignored"]
    assert ignored == "messages[2].content[0].content (image)"


def test_documents_and_search_results_are_read(native):
    source = {"type": "text", "media_type": "text/plain", "data": "Bern is a city."}
    parts = {"type": "content", "content": [text("Rome is old.")]}
    found = {"type": "search_result", "source": "a.example", "title": "A"}
    prompt = prompt_of(
        native,
        messages=said(
            {"type": "document", "title": "Towns", "source": source},
            {"type": "document", "source": parts},
            found | {"content": [text("Oslo is north.")]},
        ),
    )
    told = ["Towns\nBern is a city.", "Rome is old.", "A\na.example\nOslo is north."]
    assert "\n\n".join(told) in prompt


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "image", "source": {"type": "url", "url": "x"}}, "images are refused"),
        ({"type": "document", "source": {"type": "base64", "data": ""}}, "only documents"),
        ({"type": "audio"}, "messages[0].content[0].type"),
        ({"type": "text"}, "messages[0].content[0].text"),
        ({"type": "tool_use", "id": "a", "input": {}}, "messages[0].content[0].name"),
    ],
)
def test_a_block_that_cannot_be_read_is_refused_by_name(native, block, words):
    error = refused(native, messages=said(block))
    assert error["type"] == "invalid_request_error" and words in error["message"]


def test_blocks_of_other_servers_are_tolerated_and_named(native):
    blocks = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "s",
            "content": [{"type": "web_search_result", "url": "u", "title": "t"}],
        },
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"type": "error"}},
        text("It is sunny."),
    ]
    response = ask(native, messages=[USER, {"role": "assistant", "content": blocks}, USER])
    ignored = response.headers["x-mlxnode-ignored"]
    assert "messages[1].content[0] (server_tool_use)" in ignored
    assert "messages[1].content[1] (web_search_tool_result)" in ignored


# --- thoughts -------------------------------------------------------------------------------


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
    if stream:
        message = MessageStream().read(events_of(response.text)).message
    else:
        message = response.json()
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
    assert set(response.headers["x-mlxnode-ignored"].split(", ")) == {
        "context_management",
        "output_config.effort",
        "service_tier",
        "thinking.budget_tokens",
        "thinking.type",
        "top_secret",
    }


# --- tools ----------------------------------------------------------------------------------


def test_tools_of_anthropics_servers_are_named(native):
    response = ask(native, tools=[SEARCH, TOOL])
    ignored = response.headers["x-mlxnode-ignored"]
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
    assert "x-mlxnode-ignored" not in response.headers
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


# --- the answer -----------------------------------------------------------------------------


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
    message = (
        MessageStream().read(events_of(response.text)).message if stream else response.json()
    )
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
    message = (
        MessageStream().read(events_of(response.text)).message if stream else response.json()
    )
    usage = message["usage"]
    assert usage["cache_read_input_tokens"] == 5 and usage["output_tokens"] == 7
    assert usage["input_tokens"] == len(worker.engine.next(Generate).prompt) - 5


def test_more_tokens_than_fit_are_clamped(worker):
    response = ask(worker, max_tokens=32_000)
    assert int(response.headers["x-mlxnode-max-tokens"]) < 1024


# --- where prefixes are kept ----------------------------------------------------------------


def borders_of(worker, **body) -> list[str]:
    """The text of the prompt before each of its borders."""
    ask(worker, **body)
    message = worker.engine.next(Generate)
    return [worker.engine.text(message.prompt[:border]) for border in message.borders]


# The token before a border is given up if no added token is near: so the last letter is none
# of interest.
LONG, LONGER = "All work and no play. " * 3, "makes Jack a dull boy. " * 3
HEAD = LONG.strip()


def test_a_mark_within_a_message_is_a_border(native):
    found = borders_of(native, messages=said(text(LONG, **MARK), text(LONGER)))
    assert any(before.endswith(HEAD) for before in found), found
    found = borders_of(native, messages=said(text(LONG), text(LONGER)))
    assert not any(before.endswith(HEAD) for before in found), found


def test_a_mark_within_the_system_prompt_is_a_border(native):
    system = [text("x-anthropic-billing-header: a=1;"), text(LONG, **MARK), text(LONGER)]
    found = borders_of(native, system=system)
    assert any(before.endswith(HEAD) for before in found), found


def test_a_mark_at_the_end_of_an_earlier_message_is_a_border(native):
    messages = [
        *said(text(LONG, **MARK)),
        {"role": "assistant", "content": LONGER},
        {"role": "user", "content": LONGER},
        {"role": "assistant", "content": LONGER},
        {"role": "user", "content": LONG},
    ]
    ends = (f"{LONG}<|im_end|>\n<|im_start|>", f"{LONG}<|im_end|>\n")
    found = borders_of(native, messages=messages)
    assert any(before.endswith(ends) for before in found), found


def test_a_mark_in_a_result_that_is_moved_to_its_call_is_a_border(native):
    result = {"type": "tool_result", "tool_use_id": "toolu_1"}
    parts = [text(LONG, **MARK), text(LONGER)]
    messages = [
        {"role": "assistant", "content": [USE]},
        {"role": "system", "content": "Between."},
        *said(result | {"content": parts}),
    ]
    found = borders_of(native, messages=[USER, *messages], tools=[TOOL])
    assert any(before.endswith(HEAD) for before in found), found


def test_marks_survive_text_that_has_to_be_quoted(native):
    head = f"<|im_end|>{LONG}<|im_start|>{LONG}"
    found = borders_of(native, messages=said(text(head, **MARK), text(LONGER)))
    assert any(before.endswith(HEAD) and before.count(HEAD) == 2 for before in found), found


def test_many_marks_cost_no_more_than_four(native):
    parts = [text(f"part {i} {LONG}", **MARK) for i in range(30)]
    found = borders_of(native, messages=said(*parts), system=parts, max_tokens=1)
    assert len(found) <= 8


@pytest.mark.parametrize(
    "body",
    [
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"tools": [TOOL | MARK]},
        {"messages": said(text("hi", **MARK))},
        {"system": [text("hi", cache_control=None)]},
    ],
)
def test_marks_are_tolerated_everywhere(native, body):
    assert "x-mlxnode-ignored" not in ask(native, **body).headers


# --- counting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"system": "Be brief.", "tools": [TOOL]},
        {"tools": [TOOL, OTHER], "tool_choice": {"type": "tool", "name": "g"}},
        {"thinking": {"type": "disabled"}},
        {"messages": [USER, {"role": "assistant", "content": "I"}]},
    ],
)
def test_count_is_the_length_of_the_prompt(native, body):
    native.engine.answer = '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
    ask(native, **body)
    expected = len(native.engine.next(Generate).prompt)
    counted = {name: value for name, value in (ASK | body).items() if name != "max_tokens"}
    response = post(native, COUNT, counted)
    assert response.json() == {"input_tokens": expected}


def test_a_prompt_beyond_the_context_is_counted_but_not_answered(worker):
    long = [{"role": "user", "content": "a" * 2000}]
    assert post(worker, COUNT, ASK | {"messages": long}).json()["input_tokens"] > 2000
    error = refused(worker, messages=long)
    assert error["message"].startswith("prompt is too long: ")
    assert error["details"]["error_code"] == "context_length_exceeded"


def test_counting_needs_no_engine(own_worker):
    own_worker.engine.disconnect()
    assert post(own_worker, COUNT, ASK).status_code == 200


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status", "type"),
    [
        ("POST", MESSAGES, b"{", {}, 400, "invalid_request_error"),
        ("POST", MESSAGES, b"", {}, 400, "invalid_request_error"),
        ("POST", MESSAGES, b"{}", {}, 400, "invalid_request_error"),
        ("POST", COUNT, b"{}", {}, 400, "invalid_request_error"),
        ("POST", f"{MESSAGES}?beta=true", b"{}", {}, 400, "invalid_request_error"),
        ("POST", "/messages/", b"{}", {}, 400, "invalid_request_error"),
        ("POST", MESSAGES, b"{}", {"authorization": "Bearer no"}, 401, "authentication_error"),
        ("POST", MESSAGES, b"{}", {"authorization": ""}, 401, "authentication_error"),
        ("POST", f"{MESSAGES}/batches", b"{}", {}, 404, "not_found_error"),
        ("GET", "/v1/files", b"", VERSION, 404, "not_found_error"),
        ("GET", "/v1/models/nobody", b"", VERSION, 404, "not_found_error"),
        ("GET", MESSAGES, b"", {}, 405, "invalid_request_error"),
        ("POST", MESSAGES, b"a" * 2_000_000, {}, 413, "request_too_large"),
        ("POST", "/v1/chat/completions", b"{}", VERSION, 400, "invalid_request_error"),
    ],
)
def test_every_error_has_anthropics_envelope(
    worker, method, path, content, headers, status, type
):
    response = httpx.request(
        method,
        worker.url + path,
        content=content,
        headers=worker.headers | {"content-type": "application/json"} | headers,
    )
    assert response.status_code == status
    answer = response.json()
    assert set(answer) == {"type", "error", "request_id"} and answer["type"] == "error"
    assert answer["error"]["type"] == type and answer["error"]["message"]
    assert answer["request_id"] == response.headers["request-id"]
    assert response.headers["request-id"] == response.headers["x-request-id"]


def test_other_routes_keep_openais_envelope(worker):
    response = post(worker, "/v1/chat/completions", {})
    assert list(response.json()["error"]) == ["message", "type", "param", "code"]


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": None},
        {"max_tokens": 0},
        {"messages": None},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"system": 1},
        {"system": [{"type": "image"}]},
        {"temperature": 2.5},
        {"top_k": -2},
        {"tools": [{"input_schema": {}}]},
        {"thinking": {"type": "always"}},
        {"output_config": {"effort": "enormous"}},
        {"output_format": {"type": "json_schema"}},
        {"stop_sequences": ["a"] * 65},
    ],
)
def test_a_wrong_field_is_named(worker, change):
    error = refused(worker, **change)
    [name] = change
    assert name in error["message"] and error["details"]["param"].startswith(name)


def test_limits_are_told_by_anthropics_names(worker):
    headers = ask(worker).headers
    for kind in ("requests", "tokens"):
        for name in ("limit", "remaining"):
            own = headers[f"x-ratelimit-{name}-{kind}"]
            assert headers[f"anthropic-ratelimit-{kind}-{name}"] == own
        assert headers[f"anthropic-ratelimit-{kind}-reset"].endswith("Z")


def test_a_refusal_by_a_limit(worker):
    limits = Limit(60, 0, 30.0), Limit(100_000, 100_000, 0.0)
    worker.refuse = Reserved(0, "requests", 12.0, *limits)
    response = post(worker, MESSAGES, ASK)
    assert response.status_code == 429
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert response.headers["retry-after"] == "12"


def test_a_page_may_read_the_headers(worker):
    response = post(worker, MESSAGES, ASK, origin=worker.origin)
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"request-id", "anthropic-ratelimit-tokens-remaining"} <= set(exposed)


# --- the server's models --------------------------------------------------------------------


def models(worker, query: str = "", **headers) -> dict:
    url = f"{worker.url}/v1/models{query}"
    return httpx.get(url, headers=worker.headers | headers).json()


def test_models_have_the_shape_of_the_asker(worker):
    ids = ["tiny-chat", "org/tiny-text", "tiny-embedding"]
    assert models(worker)["object"] == "list"
    page = models(worker, **VERSION)
    assert [model["id"] for model in page["data"]] == ids
    assert {model["type"] for model in page["data"]} == {"model"}
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, ids[0], ids[2])
    one = models(worker, "/org/tiny-text", **VERSION)
    assert (one["id"], one["display_name"]) == (ids[1], ids[1])
    assert one["created_at"] == "2023-11-14T22:13:20Z"
    assert models(worker, "/org/tiny-text")["object"] == "model"


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        ("?limit=2", [0, 1], True),
        ("?limit=3", [0, 1, 2], False),
        ("?after_id=tiny-chat&limit=1", [1], True),
        ("?after_id=tiny-chat", [1, 2], False),
        ("?after_id=tiny-embedding", [], False),
        ("?before_id=tiny-embedding&limit=1", [1], True),
        ("?before_id=org/tiny-text&limit=5", [0], False),
        ("?after_id=nobody", [], False),
        ("?after_id=&before_id=", [0, 1, 2], False),
        ("?before_id=nobody", [], False),
    ],
)
def test_pages_of_models(worker, query, expected, has_more):
    ids = ["tiny-chat", "org/tiny-text", "tiny-embedding"]
    page = models(worker, query, **VERSION)
    assert [model["id"] for model in page["data"]] == [ids[place] for place in expected]
    assert page["has_more"] is has_more


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "\u0663", "1" * 5000])
def test_a_wrong_limit_is_refused(worker, limit):
    url = f"{worker.url}/v1/models"
    response = httpx.get(url, params={"limit": limit}, headers=worker.headers | VERSION)
    assert response.status_code == 400
    assert "limit" in response.json()["error"]["message"]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_the_root_answers_without_a_key(worker, method):
    response = httpx.request(method, f"{worker.url}/")
    assert response.status_code == 200 and response.headers["request-id"]
    assert (response.text == "") == (method == "HEAD")


def test_a_key_may_come_as_x_api_key(worker):
    url, key = worker.url + MESSAGES, worker.key
    headers = {"x-api-key": key, "anthropic-beta": "a-2025-01-01,b"} | VERSION
    assert httpx.post(url, json=ASK, headers=headers).status_code == 200


def test_a_body_without_a_content_type_is_read(worker):
    body = json.dumps(ASK).encode()
    response = httpx.post(worker.url + MESSAGES, content=body, headers=worker.headers)
    assert response.status_code == 200
