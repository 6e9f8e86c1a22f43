"""The Sanic application: the steps that every request takes, whatever its route."""

import logging
import time
import uuid

from sanic import HTTPResponse, Request, Sanic
from sanic.application.state import ApplicationServerInfo
from sanic.exceptions import RequestCancelled
from sanic.handlers import ErrorHandler
from sanic.http import Http
from sanic.http.constants import HTTP
from sanic.response import BaseHTTPResponse

from mlxnode import compile_queue
from mlxnode.server.errors import SHUTTING_DOWN, ApiError, Unavailable, from_exception
from mlxnode.server.http.acceptor import is_surplus
from mlxnode.server.http.auth import sent_keys
from mlxnode.server.http.codings import decode_body
from mlxnode.server.http.context import WorkerContext, context_of
from mlxnode.server.http.envelope import error_response
from mlxnode.server.http.router import LenientRouter
from mlxnode.server.http.timed_request import TimedRequest
from mlxnode.server.routes import (
    chat,
    completions,
    embeddings,
    info,
    messages,
    rerank,
    responses,
    stored_responses,
    tokens,
)

logger = logging.getLogger("mlxnode.server")

_ROUTES = (
    info,
    chat,
    completions,
    responses,
    stored_responses,
    messages,
    embeddings,
    rerank,
    tokens,
)

OPENAI_VERSION = "2020-10-01"  # the only date that OpenAI's API has sent so far
_MAX_REQUEST_ID = 128
_NEVER = 10 * 365 * 86_400.0  # seconds; the first token of a long prompt may take minutes


def build_app(name: str, context: WorkerContext) -> Sanic:
    """The application of one worker, before it serves."""
    app = Sanic(
        name,
        router=LenientRouter(),
        request_class=TimedRequest,
        error_handler=_EnvelopeErrors(),
        configure_logging=False,
        env_prefix="",
    )
    logging.getLogger("sanic").setLevel(logging.WARNING)
    server = context.config.server
    app.config.update(
        ACCESS_LOG=False,
        AUTO_EXTEND=False,
        KEEP_ALIVE_TIMEOUT=server.keep_alive_timeout,
        MOTD=False,
        REQUEST_MAX_HEADER_SIZE=Http.HEADER_CEILING,  # browsers send the cookies of all ports
        REQUEST_MAX_SIZE=server.max_body_bytes,
        REQUEST_TIMEOUT=server.request_timeout,
        RESPONSE_TIMEOUT=_NEVER,
    )
    app.ctx.worker_context = context
    # Sanic sends an empty alt-svc header unless it knows that it serves only HTTP/1.1.
    app.state.server_info.append(ApplicationServerInfo({"version": HTTP.VERSION_1}))
    for routes in _ROUTES:
        app.blueprint(routes.blueprint)
    app.ctx.documents = {}  # /openapi.json, by the models that a key may use
    app.register_middleware(_admit, "request")
    app.register_middleware(_sign, "response")
    return app


async def _admit(request: Request) -> HTTPResponse | None:
    """Check a request before its handler, and before the answer if it has none (404, 405)."""
    context = context_of(request)
    request.ctx.started = time.monotonic()
    request.ctx.request_id = _request_id(request.headers.get("x-request-id", ""))
    request.ctx.headers = {}
    headers = request.headers
    if request.method == "OPTIONS" and "access-control-request-method" in headers:
        allowed = context.cors.preflight_headers(headers)
        if allowed is not None:
            return HTTPResponse(status=204, headers=allowed)
    if context.is_draining:
        raise Unavailable(SHUTTING_DOWN)
    # Whoever asks whether the node is alive gets an answer, however many connections it has.
    is_public = request.route is not None and getattr(request.route.ctx, "public", False)
    if is_surplus(request) and not is_public:
        raise Unavailable("The server has as many connections as it can serve; try again soon")
    if request.route is not None and not is_public:
        key = context.keyring.authenticate(sent_keys(headers))
        request.ctx.key_id, request.ctx.api_key = key.id, key
        compile_queue.client.set(key.id)
        request.ctx.registry = context.registry.restricted_to(key.models)
        # After the key: inflation takes time.
        codings = headers.getall("content-encoding", [])
        max_bytes = context.config.server.max_body_bytes
        request.body = await decode_body(request.body, codings, max_bytes)
    return None


async def _sign(request: Request, response: BaseHTTPResponse) -> None:
    """Add the headers of every response, also to errors and streams."""
    context = context_of(request)
    seconds = time.monotonic() - getattr(request.ctx, "started", time.monotonic())
    response.headers.update(getattr(request.ctx, "headers", {}))
    response.headers.update(context.cors.headers_for(request.headers.get("origin")))
    response.headers["x-request-id"] = response.headers["request-id"] = _id_of(request)
    response.headers["openai-processing-ms"] = str(round(seconds * 1000))
    response.headers["openai-version"] = OPENAI_VERSION
    if (context.is_draining or is_surplus(request)) and isinstance(request.stream, Http):
        request.stream.keep_alive = False
    logger.debug(
        "%s %s %s %s %d",
        response.headers["x-request-id"],
        getattr(request.ctx, "key_id", "-"),
        request.method,
        request.path,
        response.status,
    )


class _EnvelopeErrors(ErrorHandler):
    """Answers every error, also Sanic's own, with the envelope that the client knows."""

    def default(self, request: Request, exception: Exception) -> HTTPResponse:
        limit = request.app.config.REQUEST_MAX_SIZE
        error = from_exception(exception, request.path, request.method, limit)
        if isinstance(exception, RequestCancelled):
            logger.debug("%s %s: the client has left", request.method, request.path)
        elif not isinstance(exception, ApiError) and error.status >= 500:
            logger.error("%s %s", request.method, request.path, exc_info=exception)
        elif error.status >= 500:
            logger.warning("%s %s: %s", request.method, request.path, error)
        return error_response(request, error, _id_of(request))


def _id_of(request: Request) -> str:
    """The id of ``request``, also of one that failed before it was admitted."""
    if not hasattr(request.ctx, "request_id"):
        request.ctx.request_id = _request_id("")
    return request.ctx.request_id


def _request_id(own: str) -> str:
    """The id that the client sent if it is short and printable, else a new id."""
    if 0 < len(own) <= _MAX_REQUEST_ID and own.isascii() and own.isprintable():
        return own
    return f"req_{uuid.uuid4().hex}"
