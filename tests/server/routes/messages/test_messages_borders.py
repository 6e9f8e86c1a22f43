"""Marks of the cache in /v1/messages are borders, where prefixes are kept."""

import pytest
from support.contract import IGNORED
from support.messages_requests import MARK, TOOL, USE, USER, ask, said, text

from mlxnode.messages.data import Generate


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
    assert IGNORED not in ask(native, **body).headers
