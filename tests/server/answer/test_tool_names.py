"""Names of tools that models are told, for names that clients choose freely."""

import pytest

from mlxnode.server.answer.tool_names import MAX_LENGTH, with_safe_names
from mlxnode.server.notation.tool_use import Function
from mlxnode.server.prompt.conversation import Conversation

LONG = "a" * 70


def conversation(*names: str, called: str | None = None) -> Conversation:
    functions = [Function(name=name, param="tools") for name in names]
    messages = []
    if called is not None:
        call = {"id": "1", "type": "function", "function": {"name": called, "arguments": {}}}
        messages = [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "", "tool_call_id": "1", "name": called},
        ]
    return Conversation(messages, functions=functions)


def told(*names: str, called: str | None = None) -> list[str]:
    renamed = with_safe_names(conversation(*names, called=called))
    for function, name in zip(renamed.functions, names, strict=True):
        assert (function.client_name or function.name) == name
    return [function.name for function in renamed.functions]


def test_safe_names_stay_and_so_does_their_conversation():
    plain = conversation("read_file", "x" * MAX_LENGTH, "A-1", called="gone")
    assert with_safe_names(plain) is plain


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("files.read", "files_read"),
        ("mcp:files/read", "mcp_files_read"),
        ("größe", "gr__e"),
        ("read\n", "read_"),
    ],
)
def test_other_characters_are_replaced(name, expected):
    assert told(name) == [expected]


def test_long_names_are_cut_and_stay_different():
    names = told(LONG, LONG + "b", LONG[:-1] + ".")
    assert len(set(names)) == 3 and all(len(name) == MAX_LENGTH for name in names)


@pytest.mark.parametrize(
    "names", [("a.b", "a_b"), ("a_b", "a.b"), ("a.b", "a/b", "a b", "a_b")]
)
def test_names_that_would_be_one_stay_different(names):
    safe = told(*names)
    assert len(set(safe)) == len(names)
    assert safe[names.index("a_b")] == "a_b"


def test_a_name_of_the_history_changes_as_that_of_the_function():
    renamed = with_safe_names(conversation("a.b", called="a.b"))
    call, result = renamed.messages
    [name] = [function.name for function in renamed.functions]
    assert call["tool_calls"][0]["function"]["name"] == result["name"] == name == "a_b"


def test_a_name_of_the_history_alone_changes_and_takes_no_name_of_a_function():
    renamed = with_safe_names(conversation("a_b", called="a.b"))
    assert renamed.functions[0].name == "a_b" and renamed.functions[0].client_name is None
    assert renamed.messages[0]["tool_calls"][0]["function"]["name"] not in ("a.b", "a_b")


def test_a_name_is_the_same_in_each_request_of_a_conversation():
    assert told(LONG)[0] == told(LONG, "other")[0] == told(LONG, called=LONG)[0]
