"""The items that a request to /v1/responses has, and what the model is told of them."""

import openai
import pytest
from support.contract import IGNORED
from support.responses_requests import LOOK, ask, prompt_of, refused, turns

from mlxnode.messages.data import Generate


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
        ({"input": "x" * 9000}, "input", "context_length_exceeded"),
    ],
    ids=lambda value: str(value)[:80],
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


def test_a_reference_to_an_old_thought_is_left_out_where_nothing_is_stored(native):
    """The AI SDK sends it by default; one to a text would change the answer."""
    question = {"role": "user", "content": "Hm?"}
    response = ask(native, input=[question, {"type": "item_reference", "id": "rs_1"}])
    assert response.status_code == 200
    assert response.headers[IGNORED] == "input[1] (reasoning)"
    references = [question, {"type": "item_reference", "id": "msg_1"}]
    assert refused(native, input=references)[0] == "input[1]"
