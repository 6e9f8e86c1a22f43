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
from mlxnode.server.http.strict_json import parse_json
from mlxnode.server.http.validation import BodyType, validate

logger = logging.getLogger("mlxnode.server")

_IGNORED = "x-mlxnode-ignored"
_MAX_HEADER = 500  # characters of x-mlxnode-ignored
_OTHER_JSON = re.compile(r"text/json|application/[\w.-]+\+json")
_NOT_FOR_PAGES = (
    "",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/plain",
)


def read_body(request: Request, schema: type[BodyType]) -> BodyType:
    """The request's body as a ``schema``.

    A response header names the fields that change nothing; with ``strict_fields``, those that
    nobody documents are refused.

    Raises:
        InvalidRequest: the body is not JSON, or not a valid ``schema``.
    """
    return validated(request, read_json(request), schema)


def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in the body, for ``validated``.

    Raises:
        InvalidRequest: the body is not a JSON object.
    """
    _check_content_type(request.headers)
    return parse_json(request.body)


def validated(request: Request, raw: dict[str, Any], schema: type[BodyType]) -> BodyType:
    """``raw``, of the body, as a ``schema``: see ``read_body``."""
    strict = context_of(request).config.server.strict_fields
    body, ignored = validate(schema, raw, strict=strict)
    ignored += note_priority(request, getattr(body, "priority", None))
    if ignored:
        name_ignored(request, ignored)
    return body


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
    ascii = [name.encode("ascii", "backslashreplace").decode() for name in names]
    joined = ", ".join([known, *ascii] if known else ascii)
    printable = "".join(c for c in joined if c.isprintable())
    request.ctx.headers[_IGNORED] = printable[:_MAX_HEADER]
    _log_ignored(request.path, printable[:_MAX_HEADER])


@functools.lru_cache(maxsize=1024)
def _log_ignored(path: str, names: str) -> None:
    """Log the fields once, not with every request of a client that always sends them."""
    logger.info("POST %s: ignored fields that change nothing: %s", path, names)


def json_response(
    body: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None
) -> HTTPResponse:
    return HTTPResponse(
        msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/json",
    )
