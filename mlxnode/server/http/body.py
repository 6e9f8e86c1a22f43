"""Reads request bodies and writes response bodies."""

import functools
import logging

import msgspec
from sanic import HTTPResponse, Request

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.http.context import context_of
from mlxnode.server.http.strict_json import parse_json
from mlxnode.server.http.validation import BodyType, validate

logger = logging.getLogger("mlxnode.server")

_IGNORED = "x-mlxnode-ignored"
_MAX_HEADER = 500  # characters of x-mlxnode-ignored


def read_body(request: Request, schema: type[BodyType]) -> BodyType:
    """The request's body as a ``schema``.

    A response header names the fields that change nothing; with ``strict_fields``, those that
    nobody documents are refused.

    Raises:
        InvalidRequest: the body is not JSON, or not a valid ``schema``.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest(
            f"Unsupported content type {content_type!r}: send 'Content-Type: application/json'",
            code="unsupported_content_type",
        )
    strict = context_of(request).config.server.strict_fields
    body, ignored = validate(schema, parse_json(request.body), strict=strict)
    if ignored:
        name_ignored(request, ignored)
    return body


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
