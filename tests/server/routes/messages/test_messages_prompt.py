"""What a model is told of the messages of Anthropic's API."""

import pytest
from support.contract import IGNORED
from support.messages_requests import MARK, TOOL, USE, USER, ask, prompt_of, refused, said, text


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
    ignored = ask(native, messages=messages, tools=[TOOL]).headers[IGNORED]
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
    ignored = response.headers[IGNORED]
    assert "messages[1].content[0] (server_tool_use)" in ignored
    assert "messages[1].content[1] (web_search_tool_result)" in ignored
