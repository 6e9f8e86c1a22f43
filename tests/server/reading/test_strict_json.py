import json

import pytest
from support.cpu_time import cpu_time

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.reading.strict_json import _object_without_duplicates, parse_json


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"\\ud800": 1, "\\udc00": 2}',
        b'{"\\ud800": 1, "\xef\xbf\xbd": 2}',
        b'{"a": "\xff"}',
        b"{}\xef\xbb\xbf",
        b"\xef\xbb\xbf" * 2 + b"{}",
        b"\xff\xfe{\0}\0",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"{'a': 1}",
        b'{"a": 1,}',
    ],
)
def test_parse_json_refuses(body):
    with pytest.raises(InvalidRequest):
        parse_json(body)


class Key(str):
    """A key that counts how often keys are compared."""

    num_compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Key.num_compared += 1
        return str.__eq__(self, other)


@pytest.mark.parametrize("repeated", [0, 1234, 4999])
def test_a_repeated_key_is_found_in_linear_time(repeated):
    Key.num_compared = 0
    keys = [Key(number) for number in [*range(5000), repeated]]
    with pytest.raises(ValueError, match=f"'{repeated}' is given twice"):
        _object_without_duplicates([(key, None) for key in keys])
    assert Key.num_compared < 3 * len(keys)


def test_the_first_repeated_key_is_named():
    with pytest.raises(InvalidRequest, match="'a' is given twice"):
        parse_json(b'{"a": 1, "b": 2, "a": 3, "b": 4}')


def test_parse_json_reads_escaped_pairs():
    assert parse_json(b'{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (r'{"a": "x\ud800"}', {"a": "x\ufffd"}),
        (r'{"a": ["\udc00y", {"b": "\uDBFF"}]}', {"a": ["\ufffdy", {"b": "\ufffd"}]}),
        (r'{"\udc00": 1}', {"\ufffd": 1}),
        (r'{"a": "\ude00\ud83d"}', {"a": "\ufffd\ufffd"}),
        (r'{"a": "\ud83d\ud83d\ude00"}', {"a": "\ufffd😀"}),
        (r'{"a": "\\ud83d\ude00"}', {"a": r"\ud83d" + "\ufffd"}),
        (r'{"a": "\\ud83d\\ude00"}', {"a": r"\ud83d\ude00"}),
        (r'{"a": "\ud800", "b": [1.0, 2.5, 1e2, null, true]}', None),
    ],
)
def test_half_a_pair_is_replaced_and_nothing_else(text, read):
    expected = read or {"a": "\ufffd", "b": [1, 2.5, 100, None, True]}
    assert parse_json(text.encode()) == expected
    json.dumps(parse_json(text.encode()), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b"\xef\xbb\xbf" + b'{"a": 1}', {"a": 1}),
        (b'{"a": "line\nline\ttab\r"}', {"a": "line\nline\ttab\r"}),
        ('{"a": "\ufeff"}'.encode(), {"a": "\ufeff"}),
    ],
)
def test_parse_json_understands_what_has_one_meaning(body, read):
    assert parse_json(body) == read


def test_utf_16_is_named():
    for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        with pytest.raises(InvalidRequest, match="UTF-16"):
            parse_json('{"a": 1}'.encode(coding))


@pytest.mark.parametrize("half", [r"\ud800", r"\ud83d\ude00", r"\\ud800"])
def test_surrogates_take_linear_time(half):
    seconds = []
    for count in (20_000, 200_000):
        body = b'{"a": "' + half.encode() * count + b'"}'
        with cpu_time() as spent:
            parse_json(body)
        seconds.append(spent.seconds)
    assert seconds[1] < 0.1 + 30 * seconds[0]
