"""Values that are nearly JSON have one meaning, or none."""

import json
import random

import pytest

from mlxnode.server.parsing.values import read_members, read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': 'it\\'s', \"b\": [1, 2,],}", {"a": "it's", "b": [1, 2]}),
        ('{"a": "x\ny\tz"}', {"a": "x\ny\tz"}),
        ("[True, False, None, true, null]", [True, False, None, True, None]),
        ("(1, -2.5, 3e2)", [1, -2.5, 300.0]),
        ("{a: 1, b.c: 2}", {"a": 1, "b.c": 2}),
        ('{a:<|"|>say "hi"<|"|>,b:[<|"|><|"|>]}', {"a": 'say "hi"', "b": [""]}),
        ("'\\u00e9\\x41\\d\\n'", "\u00e9A\\d\n"),
        ("'\\ud83d\\ude00'", "\U0001f600"),
        ("{}", {}),
    ],
)
def test_read_value_reads_what_has_one_meaning(text, value):
    assert read_value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", '{"a" 1}', '{"a": 1 "b": 2}', "[1 2]", "[,]", "{'a': 'x}", "NaN"),
        *("[Infinity]", "1e999", "x", "{} {}", "[1}", "{'a': 1, 'a': 2}", '"a', "f()", "007"),
        *("[" * 100_000, "9" * 5000),
    ],
)
def test_read_value_refuses_the_rest(text):
    with pytest.raises(ValueError):
        read_value(text)


def test_read_members_reads_keyword_arguments():
    assert read_members("(city='Rome', days=2)") == {"city": "Rome", "days": 2}
    assert read_members('{city:<|"|>Rome<|"|>,deep:{a:1}}') == {
        "city": "Rome",
        "deep": {"a": 1},
    }
    assert read_members("()") == read_members("{}") == {}
    for text in ("('Rome')", "(city=)", "(city='a', city='b')", "[1]", "(a=1) x"):
        with pytest.raises(ValueError):
            read_members(text)


def test_read_value_agrees_with_json_and_python():
    rng = random.Random(0)

    def value(depth: int) -> object:
        kind = rng.randrange(7 if depth else 5)
        if kind == 5:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        if kind == 6:
            return {text(): value(depth - 1) for _ in range(rng.randrange(4))}
        return [text(), rng.randrange(-99, 99), rng.random(), rng.random() < 0.5, None][kind]

    def text() -> str:
        return "".join(rng.choices("ab'\"\\\n\u00e9\U0001f600{}[],:", k=rng.randrange(6)))

    for _ in range(500):
        expected = value(4)
        assert read_value(json.dumps(expected, ensure_ascii=rng.random() < 0.5)) == expected
        assert read_value(repr(expected)) == expected
