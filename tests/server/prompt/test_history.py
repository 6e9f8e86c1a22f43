"""Calls and results of a history, completed."""

import time

import pytest

from mlxnode.server.prompt.history import arguments_of, link_results


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        ("", {}),
        (" ", {}),
        (None, {}),
        ("null", {}),
        ("{}", {}),
        ('{"a": 1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('""', {}),
        ('{"a": "x\ny"}', {"a": "x\ny"}),
        (r'{"a": "x\ud800"}', {"a": "x\ufffd"}),
        (r'"{\"a\": \"\\udc00\"}"', {"a": "\ufffd"}),
        (r'["\ud83d", "\ud83d\ude00"]', {"arguments": ["\ufffd", "😀"]}),
        (r'"\ud800"', {"arguments": "\ufffd"}),
        ('{"a": 1', {"arguments": '{"a": 1'}),
        ("[1]", {"arguments": [1]}),
        ([1], {"arguments": [1]}),
        ("7", {"arguments": 7}),
        ("Rome", {"arguments": "Rome"}),
        ("[" * 100_000, {"arguments": "[" * 100_000}),
        ("1" * 5000, {"arguments": "1" * 5000}),
    ],
)
def test_arguments_are_an_object(value, arguments):
    assert arguments_of(value) == arguments


def call(name: str, id: str = "") -> dict:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": {}}}


def calling(*calls: dict) -> dict:
    return {"role": "assistant", "content": "", "tool_calls": list(calls)}


def result(**fields: str) -> dict:
    return {"role": "tool", "content": "x", **fields}


def linked(*messages: dict) -> list[tuple]:
    """The ids of calls, and the id and name of each result."""
    found = []
    for message in link_results(list(messages)):
        found += [call["id"] for call in message.get("tool_calls", ())]
        if message["role"] == "tool":
            found.append((message["tool_call_id"], message["name"]))
    return found


def test_results_are_those_of_the_calls():
    assert linked(calling(call("f", "a"), call("g", "b")), result(tool_call_id="b")) == [
        *("a", "b"),
        ("b", "g"),
    ]
    # Without ids, by name or else in order.
    assert linked(calling(call("f"), call("g")), result(name="g"), result()) == [
        *("call_0", "call_1"),
        ("call_1", "g"),
        ("call_0", "f"),
    ]
    # An id that nobody has is that of the first call without a result.
    assert linked(calling(call("f", "a")), result(tool_call_id="z")) == ["a", ("a", "f")]
    # The id of an earlier call, once more; and a result without any call.
    assert linked(calling(call("f", "a")), *[result(tool_call_id="a")] * 2)[2] == ("a", "f")
    assert linked(result()) == [("call_0", "tool")]


def test_ids_differ_within_an_answer():
    assert linked(calling(call("f", "a"), call("g", "a"))) == ["a", "call_1"]
    assert linked(calling(call("f")), result(), calling(call("g")), result()) == [
        "call_0",
        ("call_0", "f"),
        "call_1",
        ("call_1", "g"),
    ]


def test_results_follow_their_calls():
    asked = {"role": "user", "content": "?"}
    messages = [calling(call("f", "a")), asked, result(tool_call_id="a"), asked]
    roles = [message["role"] for message in link_results(messages)]
    assert roles == ["assistant", "tool", "user", "user"]


def test_many_calls_take_no_long_time():
    calls = [call("f", f"a{number}") for number in range(50_000)]
    results = [result(tool_call_id=f"b{number}", name="g") for number in range(50_000)]
    started_at = time.thread_time()
    link_results([calling(*calls), *results])
    assert time.thread_time() - started_at < 10
