"""Reads a form with one file as it arrives: the file goes on, and is never held in memory."""

import re
from collections.abc import Callable
from urllib.parse import unquote

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from mlxnode.server.errors import InvalidRequest

FILE = "file"  # the name of the part that is the file
_MAX_FIELD = 1024  # bytes
_MAX_PARTS = 64
_MAX_NAME = 255  # characters of a file name, as file systems have it
_EXTENDED = re.compile(rb";\s*filename\*=(?:utf-8|UTF-8)'[\w-]*'([^;\s]+)")
_CODE = "invalid_multipart"


class FormReader:
    """Reads one form. ``fields`` has those of ``names``, and ``ignored`` the names of others.

    ``feed`` takes the body in pieces; ``on_file`` gets the bytes of the file. ``filename`` is
    None until the file has begun. Raises what ``on_file`` raises.
    """

    def __init__(
        self, content_type: str, names: tuple[str, ...], on_file: Callable[[bytes], object]
    ):
        self.fields: dict[str, str] = {}
        self.ignored: list[str] = []
        self.filename: str | None = None
        self._names = names
        self._on_file = on_file
        self._num_parts = 0
        self._is_complete = False
        self._head = self._value = b""  # of a header of the part
        self._disposition = b""
        self._name: str | None = None  # of the part
        self._data = bytearray()  # of a field
        self._parser = MultipartParser(
            _boundary_of(content_type),
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_to_head,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the body.

        Raises:
            InvalidRequest: it is no form, or not one with one file.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest(
                f"The body is not multipart/form-data as its Content-Type says: {error}.",
                code=_CODE,
            ) from error

    def finish(self) -> str:
        """The name of the file, after the whole body.

        Raises:
            InvalidRequest: the form is cut, or has no file.
        """
        if not self._is_complete:
            raise InvalidRequest("The form in the body has no end: it was cut.", code=_CODE)
        if self.filename is None:
            raise InvalidRequest(
                "Missing required parameter: 'file'.",
                param=FILE,
                code="missing_required_parameter",
            )
        return self.filename

    # --- what the parser calls ----------------------------------------------------------

    def _begin_part(self) -> None:
        self._num_parts += 1
        if self._num_parts > _MAX_PARTS:
            raise InvalidRequest(f"The form has more than {_MAX_PARTS} parts.", code=_CODE)
        self._head = self._value = self._disposition = b""
        self._name = None
        self._data = bytearray()

    def _add_to_head(self, data: bytes, start: int, end: int) -> None:
        self._head += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._head.lower() == b"content-disposition":
            self._disposition = self._value
        self._head = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise InvalidRequest("A part of the form has no name.", code=_CODE)
        self._name = name = options[b"name"].decode(errors="replace")
        if name == FILE:
            if self.filename is not None:
                raise InvalidRequest("The form has more than one file.", param=FILE, code=_CODE)
            self.filename = _file_name(self._disposition, options.get(b"filename", b""))
        elif name in self.fields:
            raise InvalidRequest(
                f"The form has '{name}' more than once.", param=name, code=_CODE
            )

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self._on_file(data[start:end])
        elif self._name in self._names:
            self._data += data[start:end]
            if len(self._data) > _MAX_FIELD:
                raise InvalidRequest(
                    f"'{self._name}' has more than {_MAX_FIELD} bytes.",
                    param=self._name,
                    code=_CODE,
                )

    def _end_part(self) -> None:
        name = self._name or ""
        if name in self._names:
            self.fields[name] = self._data.decode(errors="replace")
        elif name != FILE:
            self.ignored.append(name)

    def _end(self) -> None:
        self._is_complete = True


def _boundary_of(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise InvalidRequest(
            f"Unsupported content type {content_type!r}: send the file as multipart/form-data",
            code="unsupported_content_type",
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:  # RFC 2046
        raise InvalidRequest(
            "The Content-Type multipart/form-data needs a boundary of 1 to 70 characters.",
            code=_CODE,
        )
    return boundary


def _file_name(disposition: bytes, sent: bytes) -> str:
    """The last part of the path that a client sent, without what no name should have."""
    if not sent and (extended := _EXTENDED.search(disposition)):
        sent = unquote(extended[1].decode("latin-1"), errors="replace").encode()
    text = re.split(r"[/\\]", sent.decode(errors="replace"))[-1]
    printable = "".join(c for c in text if c.isprintable()).strip()
    return printable[:_MAX_NAME] or "upload"
