"""The input file of a batch: its lines, or what is wrong with them."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from mlxnode.batches.rows import Problem

MAX_PROBLEMS = 100  # that are told; a client corrects its program, not each line
_ENVELOPE_BYTES = 65_536  # of a line, around its body
_METHOD = "POST"
_MARK = b"\xef\xbb\xbf"  # of UTF-8, at the start of files that Windows writes


class Line(NamedTuple):
    """Where a request stands in the file, and the model that it names ("": none)."""

    number: int  # from 1
    offset: int
    size: int
    model: str


class Request(msgspec.Struct, frozen=True):
    """One request. ``body`` is as the client wrote it."""

    custom_id: str
    body: msgspec.Raw
    model: str = ""
    is_stream: bool = False


@dataclass
class Input:
    """The lines of a file in their order; it is refused if there are ``problems``."""

    lines: list[Line] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class _Head(msgspec.Struct):
    """The fields of a body that matter before it is sent; the server checks all of them."""

    model: object = None
    stream: object = None


class _Refused(Exception):
    def __init__(self, code: str, message: str, param: str | None = None):
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_object = msgspec.json.Decoder(_Head)


def read_input(path: Path, endpoint: str, *, max_lines: int, max_body_bytes: int) -> Input:
    """Check all lines of the file, of which one is in memory at a time.

    Each line is to be a request to ``endpoint`` with a ``custom_id`` of its own.

    Raises:
        OSError: the file cannot be read.
    """
    found = Input()
    seen: set[bytes] = set()  # digests of the ids, which can be long
    with path.open("rb") as file:
        for number, offset, data in _lines_of(file, max_body_bytes + _ENVELOPE_BYTES):
            try:
                request = parse_line(data, endpoint, max_body_bytes + _ENVELOPE_BYTES)
                _note_id(request.custom_id, seen)
                if len(found.lines) == max_lines:
                    raise _Refused(
                        "too_many_requests", f"A batch can have at most {max_lines} requests."
                    )
            except _Refused as why:
                found.problems.append(Problem(why.code, why.message, number, why.param))
                if len(found.problems) == MAX_PROBLEMS or why.code == "too_many_requests":
                    break
            else:
                found.lines.append(Line(number, offset, len(data), request.model))
    if not (found.lines or found.problems):
        found.problems.append(Problem("empty_file", "The input file has no requests."))
    return found


def request_at(file: BinaryIO, line: Line, endpoint: str) -> Request:
    """The request of a line of a file that ``read_input`` has accepted."""
    file.seek(line.offset)
    return parse_line(file.read(line.size), endpoint)


def parse_line(data: bytes, endpoint: str, max_bytes: int | None = None) -> Request:
    """The request that a line holds; raises ``_Refused``, which says what is wrong with it."""
    if max_bytes is not None and len(data) > max_bytes:
        raise _Refused("line_too_long", f"A line can have at most {max_bytes} bytes.")
    try:
        fields = _fields.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _Refused("invalid_json_line", "This line is not a JSON object.") from None
    except RecursionError:
        raise _Refused("nested_too_deeply", "This line is nested too deeply.") from None
    custom_id = _text_of(fields, "custom_id")
    method, url = _text_of(fields, "method"), _text_of(fields, "url")
    if method != _METHOD:
        raise _Refused(
            "invalid_method", f"method must be POST, got {_quoted(method)}", "method"
        )
    if url != endpoint:
        raise _Refused(
            "mismatched_url",
            f"url must be the endpoint of the batch, {endpoint}, got {_quoted(url)}",
            "url",
        )
    body = _required(fields, "body")
    try:
        head = _object.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _Refused("invalid_type", "body must be a JSON object", "body") from None
    model = head.model if isinstance(head.model, str) else ""
    return Request(custom_id, body, model, is_stream=head.stream is True)


def _lines_of(file: BinaryIO, limit: int) -> Iterator[tuple[int, int, bytes]]:
    """The lines that are not blank: (number, offset, bytes).

    Of a line with more than ``limit`` bytes there are some more than that, and not its end.
    """
    offset = 0
    most = limit + 2
    for number, data in enumerate(iter(functools.partial(file.readline, most), b""), start=1):
        start, line = offset, data
        offset += len(data)
        while len(data) == most and not data.endswith(b"\n"):  # the rest is not kept
            data = file.readline(most)
            offset += len(data)
        if number == 1 and line.startswith(_MARK):
            start, line = len(_MARK), line[len(_MARK) :]
        if line.strip():
            yield number, start, line


def _note_id(custom_id: str, seen: set[bytes]) -> None:
    digest = hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
    if digest in seen:
        raise _Refused(
            "duplicate_custom_id",
            f"The custom_id {_quoted(custom_id)} is that of an earlier line, too.",
            "custom_id",
        )
    seen.add(digest)


def _required(fields: dict[str, msgspec.Raw], name: str) -> msgspec.Raw:
    if name not in fields:
        raise _Refused("missing_required_parameter", f"{name} is missing", name)
    return fields[name]


def _text_of(fields: dict[str, msgspec.Raw], name: str) -> str:
    try:
        return _text.decode(_required(fields, name))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _Refused("invalid_type", f"{name} must be a string", name) from None


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "…")
