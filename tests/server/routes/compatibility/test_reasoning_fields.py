"""Wishes about reasoning: their rows of docs/compatibility.md."""

import pytest
from support.contract import asked


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
