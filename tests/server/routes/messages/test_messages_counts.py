"""/v1/messages/count_tokens counts the prompt that the same request would have."""

import pytest
from support.contract import post
from support.messages_requests import ASK, COUNT, OTHER, TOOL, USER, ask, refused

from mlxnode.messages.data import Generate


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
