"""Reading request bodies and writing response bodies."""

import asyncio
import contextlib
import functools
import logging

import msgspec
from sanic import HTTPResponse, Request
from sanic.exceptions import PayloadTooLarge, RequestTimeout

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.http.context import node_of
from mlxnode.server.http.validation import BodyType, parse_json, validate

logger = logging.getLogger("mlxnode.server")

_MAX_HEADER = 500  # characters of x-mlxnode-ignored
_DISCARD_SECONDS = 5.0


class TimedRequest(Request):
    """A request whose body has to arrive in time; Sanic's own timeout ends with the head."""

    async def receive_body(self) -> None:
        try:
            await asyncio.wait_for(super().receive_body(), self.app.config.REQUEST_TIMEOUT)
        except TimeoutError:
            self._close_after_answer()
            raise RequestTimeout("The request's body took too long to arrive") from None
        except PayloadTooLarge:
            # Closing on a client that still sends would reset it before it reads the answer.
            self.stream.request_max_size = float("inf")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._discard_body(), _DISCARD_SECONDS)
            self._close_after_answer()
            raise
        # Sanic leaves the transport paused after a large body: nobody would see the client go.
        self.transport.resume_reading()

    async def _discard_body(self) -> None:
        async for _ in self.stream:
            pass

    def _close_after_answer(self) -> None:
        self.stream.keep_alive = False
        self.stream.request_body = None  # Sanic would wait for the rest.


def read_body(request: Request, schema: type[BodyType]) -> BodyType:
    """The request's body as ``schema``; fields that nobody documents are named in a header.

    With ``strict_fields`` they are refused.

    Raises:
        InvalidRequest: not JSON, or not a valid ``schema``.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest(
            f"Unsupported content type {content_type!r}: send 'Content-Type: application/json'",
            code="unsupported_content_type",
        )
    body, unknown = validate(schema, parse_json(request.body))
    if unknown and node_of(request).config.server.strict_fields:
        raise InvalidRequest(
            f"Unrecognized request argument supplied: {unknown[0]}",
            param=unknown[0],
            code="unknown_parameter",
        )
    if unknown:
        names = [name.encode("ascii", "backslashreplace").decode() for name in unknown]
        printable = "".join(c for c in ", ".join(names) if c.isprintable())
        request.ctx.headers["x-mlxnode-ignored"] = printable[:_MAX_HEADER]
        _log_ignored(request.path, printable[:_MAX_HEADER])
    return body


@functools.lru_cache(maxsize=1024)
def _log_ignored(path: str, names: str) -> None:
    """Once, not with every request of a client that always sends them."""
    logger.info("POST %s: ignored the fields that nobody documents: %s", path, names)


def json_response(
    body: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None
) -> HTTPResponse:
    return HTTPResponse(
        msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/json",
    )


def check_token_ids(inputs: list[list[int]], vocabulary_size: int, param: str) -> None:
    """Raises InvalidRequest for an id that the model has no embedding for."""
    for index, ids in enumerate(inputs):
        if max(ids) >= vocabulary_size:
            path = f"{param}[{index}]" if len(inputs) > 1 else param
            raise InvalidRequest(
                f"Invalid '{path}': token id {max(ids)} is outside the model's vocabulary "
                f"of {vocabulary_size}.",
                param=path,
                code="invalid_token_id",
            )
