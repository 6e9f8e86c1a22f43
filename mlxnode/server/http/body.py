"""Reads request bodies and writes response bodies."""

import functools
import logging
import re
from typing import Any

import msgspec
from sanic import HTTPResponse, Request
from sanic.compat import Header

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.http.context import context_of
from mlxnode.server.http.priority import note_priority
from mlxnode.server.http.timed_request import TimedRequest
from mlxnode.server.reading.reader_process import Schema
from mlxnode.server.reading.validation import MAX_NAMES, BodyType
from mlxnode.server.seldom import SeldomLog

seldom = SeldomLog(logging.getLogger("mlxnode.server"))

_IGNORED = "x-mlxnode-ignored"
_MAX_HEADER = 500  # characters of x-mlxnode-ignored
_OTHER_JSON = re.compile(r"text/json|application/[\w.-]+\+json")
_NOT_FOR_PAGES = (
    "",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/plain",
)


async def read_body(request: Request, schema: type[BodyType]) -> BodyType:
    """The request's body as a ``schema``.

    A response header names the fields that change nothing; with ``strict_fields``, those that
    nobody documents are refused.

    Raises:
        InvalidRequest: the body is not JSON, or not a valid ``schema``.
        Unavailable: a large body could not be read for now.
    """
    return await read_one_of(request, schema)


async def read_one_of(request: Request, schema: Schema, **defaults: Any) -> Any:
    """As ``read_body``, where the body itself can choose its schema.

    ``defaults``: fields of bodies that lack them; None: there is none.
    """
    _check_content_type(request.headers)
    context = context_of(request)
    strict = context.config.server.strict_fields
    request.ctx.body_size = len(request.body)
    body, ignored = await context.body_reader.read(
        request.body, schema, strict=strict, defaults=defaults
    )
    if isinstance(request, TimedRequest):
        request.release_body()
    ignored += note_priority(request, getattr(body, "priority", None))
    if ignored:
        name_ignored(request, ignored)
    return body


async def read_optional_body(request: Request, schema: type[BodyType]) -> BodyType:
    """As ``read_body``; without a body, as if it were an empty object, which PHP writes []."""
    if request.body and request.body.strip() != b"[]":
        return await read_body(request, schema)
    _check_content_type(request.headers)  # of a page: see there
    return schema.model_validate({})


def size_of(request: Request) -> int:
    """The bytes of the body that ``read_body`` has read, without codings."""
    return request.ctx.body_size


def _check_content_type(headers: Header) -> None:
    """Check that the body is meant as JSON.

    Tools that are not browsers often send JSON as another type: curl does unless it is told
    not to. A web page may send the types of forms, and none, to any server without asking by
    a preflight. The rules for origins would not hold then: from a page, JSON has to be named.
    Every browser sends Origin with a POST.

    Raises:
        InvalidRequest: with the code ``unsupported_content_type``.
    """
    sent = headers.get("content-type", "")
    content_type = sent.partition(";")[0].strip().lower()
    if content_type == "application/json" or _OTHER_JSON.fullmatch(content_type):
        return
    if content_type in _NOT_FOR_PAGES and "origin" not in headers:
        return
    raise InvalidRequest(
        f"Unsupported content type {sent!r}: send 'Content-Type: application/json'",
        code="unsupported_content_type",
    )


def name_ignored(request: Request, names: list[str]) -> None:
    """Name the fields in a response header, with those that are named there already."""
    known = request.ctx.headers.get(_IGNORED)
    cut = (name[:_MAX_HEADER] for name in names[:MAX_NAMES])
    ascii = [name.encode("ascii", "backslashreplace").decode() for name in cut]
    joined = ", ".join([known, *ascii] if known else ascii)
    printable = "".join(c for c in joined if c.isprintable())
    request.ctx.headers[_IGNORED] = printable[:_MAX_HEADER]
    _log_ignored(request.path, printable[:_MAX_HEADER])


@functools.lru_cache(maxsize=1024)
def _log_ignored(path: str, names: str) -> None:
    """Log the fields once, not with every request of a client that always sends them."""
    line = "POST %s: ignored fields that change nothing: %s"
    seldom.log(logging.INFO, f"{path} {names}", line, path, names)


def json_response(
    body: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None
) -> HTTPResponse:
    return HTTPResponse(
        msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/json",
    )
