import pytest

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.http.strict_json import _object_without_duplicates, parse_json


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
        b'{"a": "\\ud800"}',
        b'{"\\udc00": 1}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
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
