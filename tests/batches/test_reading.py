"""Input files of batches: what is accepted, and what is said about the rest."""

import json

import pytest

from mlxnode.batches.reading import MAX_PROBLEMS, read_input, request_at

CHAT = "/v1/chat/completions"


def line(custom_id: object = "a", **changes: object) -> dict[str, object]:
    body = {"model": "m", "messages": []}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body} | changes


@pytest.fixture
def read(tmp_path):
    def read(data: bytes | list, **limits: int):
        path = tmp_path / "input.jsonl"
        if isinstance(data, list):
            data = b"".join(json.dumps(one).encode() + b"\n" for one in data)
        path.write_bytes(data)
        limits = {"max_lines": 1000, "max_body_bytes": 100_000} | limits
        found = read_input(path, CHAT, **limits)
        with path.open("rb") as file:
            return found, [request_at(file, one, CHAT) for one in found.lines]

    return read


def test_read_input_finds_each_request_where_it_stands(read):
    first, second = line("a"), line("ü", body={"model": "n", "stream": True, "x": [1, 2.5]})
    data = (
        b"\xef\xbb\xbf"
        + json.dumps(first).encode()
        + b"\r\n\n   \n"
        + json.dumps(second).encode()
    )
    found, requests = read(data)
    assert not found.problems
    assert [(one.number, one.model) for one in found.lines] == [(1, "m"), (4, "n")]
    assert [one.custom_id for one in requests] == ["a", "ü"]
    assert [one.is_stream for one in requests] == [False, True]
    assert json.loads(bytes(requests[1].body)) == second["body"]


DEEP = json.dumps(line(body={"model": "M"})).encode().replace(b'"M"', b"[" * 9000 + b"]" * 9000)


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[]", "invalid_json_line", None),
        (b"\xff\xfe", "invalid_json_line", None),
        (b"{} {}", "invalid_json_line", None),
        (b"{}", "missing_required_parameter", "custom_id"),
        (line(7), "invalid_type", "custom_id"),
        (line(None), "invalid_type", "custom_id"),
        (line(method="GET"), "invalid_method", "method"),
        (line(url="/v1/embeddings"), "mismatched_url", "url"),
        (line(url="http://elsewhere" + CHAT), "mismatched_url", "url"),
        (line(body="text"), "invalid_type", "body"),
        (line(body=None), "invalid_type", "body"),
        (line("first"), "duplicate_custom_id", "custom_id"),
        (b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}", "nested_too_deeply", None),
        (DEEP, "nested_too_deeply", None),
        (line(body={"pad": "x" * 200_000}), "line_too_long", None),
    ],
)
def test_read_input_says_what_is_wrong_with_a_line(read, bad, code, param):
    bad = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
    good = json.dumps(line("first")).encode()
    found, _ = read(good + b"\n" + bad + b"\n" + json.dumps(line("last")).encode())
    [problem] = found.problems
    assert (problem.code, problem.line, problem.param) == (code, 2, param)
    assert [one.number for one in found.lines] == [1, 3]


def test_read_input_says_of_a_missing_field_which_it_is(read):
    for name in ("method", "url", "body"):
        bad = line()
        del bad[name]
        found, _ = read([bad])
        assert found.problems[0].param == name


def test_read_input_refuses_a_file_without_requests(read):
    for data in (b"", b"\n \n"):
        found, _ = read(data)
        assert [(p.code, p.line) for p in found.problems] == [("empty_file", None)]


def test_read_input_refuses_too_many_lines_once(read):
    found, _ = read([line(str(i)) for i in range(9)], max_lines=3)
    assert [(p.code, p.line) for p in found.problems] == [("too_many_requests", 4)]


def test_read_input_tells_a_bounded_number_of_problems(read):
    found, _ = read(b"{\n" * (2 * MAX_PROBLEMS))
    assert len(found.problems) == MAX_PROBLEMS
