"""The Sanic application: the steps that every request takes, whatever its route."""

import logging
import time
import traceback
import uuid

from sanic import HTTPResponse, Request
from sanic.application.state import ApplicationServerInfo
from sanic.exceptions import NotFound, RequestCancelled
from sanic.handlers import ErrorHandler
from sanic.http import Http
from sanic.http.constants import HTTP
from sanic.response import BaseHTTPResponse

from mlxnode import fair_threads
from mlxnode.config.keys import ApiKey
from mlxnode.process.inner_socket import KEY_HEADER
from mlxnode.server.errors import (
    SHUTTING_DOWN,
    ApiError,
    InvalidRequest,
    TooLarge,
    Unavailable,
    from_exception,
)
from mlxnode.server.http.acceptor import is_inner, is_mistaken, is_surplus
from mlxnode.server.http.accounting import account_of
from mlxnode.server.http.auth import ANONYMOUS, sent_keys
from mlxnode.server.http.body_limit import limit_of
from mlxnode.server.http.bytes_in_flight import BytesInFlight
from mlxnode.server.http.codings import codings_of
from mlxnode.server.http.context import WorkerContext, context_of
from mlxnode.server.http.envelope import error_response
from mlxnode.server.http.logged_app import LoggedApp
from mlxnode.server.http.router import LenientRouter
from mlxnode.server.http.timed_request import TimedRequest
from mlxnode.server.routes import (
    admin,
    batches,
    chat,
    completions,
    embeddings,
    figures,
    files,
    info,
    messages,
    metrics,
    models,
    page,
    rerank,
    responses,
    stored_responses,
    tokens,
)
from mlxnode.server.seldom import SeldomLog

logger = logging.getLogger("mlxnode.server")

_ROUTES = (
    info,
    page,
    models,
    chat,
    completions,
    responses,
    stored_responses,
    messages,
    embeddings,
    rerank,
    tokens,
    figures,
    files,
    batches,
    admin,
)

OPENAI_VERSION = "2020-10-01"  # the only date that OpenAI's API has sent so far
_MAX_REQUEST_ID = 128
_NEVER = 10 * 365 * 86_400.0  # seconds; the first token of a long prompt may take minutes


def build_app(name: str, context: WorkerContext) -> LoggedApp:
    """The application of one worker, before it serves."""
    app = LoggedApp(
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
        REQUEST_MAX_SIZE=server.max_body_bytes,
        REQUEST_TIMEOUT=server.request_timeout,
        RESPONSE_TIMEOUT=_NEVER,
        WRITE_TIMEOUT=server.write_timeout,
    )
    app.ctx.worker_context = context
    app.ctx.admit = _admit
    app.ctx.bytes_in_flight = BytesInFlight(server.buffered_bytes, server.max_body_bytes)
    # Sanic sends an empty alt-svc header unless it knows that it serves only HTTP/1.1.
    app.state.server_info.append(ApplicationServerInfo({"version": HTTP.VERSION_1}))
    for routes in _ROUTES:
        app.blueprint(routes.blueprint)
    app.blueprint(metrics.blueprint_of(server.metrics))
    app.ctx.documents = {}  # /openapi.json, by what a key may use
    app.register_middleware(_begin, "request")
    app.register_middleware(_sign, "response")
    return app


async def _begin(request: Request) -> HTTPResponse | None:
    """Check a request before its handler, and before the answer if it has none (404, 405)."""
    if request.method == "NONE":
        return None  # Sanic's own, for the answer to a head that is refused
    context = context_of(request)
    headers = request.headers
    if is_mistaken(request):
        raise InvalidRequest(
            "This server speaks HTTPS: use https:// in its URL", code="not_tls"
        )
    if request.method == "OPTIONS" and "access-control-request-method" in headers:
        allowed = context.cors.preflight_headers(headers)
        if allowed is not None:
            return HTTPResponse(status=204, headers=allowed)
    if request.method == "OPTIONS" and request.path == "*":  # a ping (RFC 9110, section 9.3.7)
        return HTTPResponse(status=204, headers={"allow": "GET, HEAD, POST, DELETE, OPTIONS"})
    _admit(request)
    return None


def _admit(request: Request) -> None:
    """Check the head of a request, once. ``TimedRequest`` calls it before it reads a body.

    Raises:
        ApiError: the request is refused, whatever its body is.
    """
    if hasattr(request.ctx, "is_admitted"):
        return
    context = context_of(request)
    if not hasattr(request.ctx, "started"):
        request.ctx.started = time.monotonic()
        request.ctx.request_id = _request_id(request.headers.get("x-request-id", ""))
        request.ctx.headers = {}
    if context.refuses:
        raise Unavailable(SHUTTING_DOWN)
    _check_host(request)
    # Whoever asks whether the node is alive gets an answer, however many connections it has.
    is_public = request.route is not None and getattr(request.route.ctx, "public", False)
    if is_surplus(request) and not is_public:
        raise Unavailable("The server has as many connections as it can serve; try again soon")
    if request.route is not None and not is_public:
        for_admin = getattr(request.route.ctx, "admin", False)
        if for_admin and not context.keyring.has_admin:
            raise NotFound()
        if getattr(request.route.ctx, "operates", False):
            for_admin = not context.keyring.is_open
        elif getattr(request.route.ctx, "any_key", False):
            for_admin = None
        key = _key_of(request, for_admin=for_admin)
        request.ctx.api_key, request.ctx.key_id = key, key.id
        fair_threads.client.set(f"batches of {key.id}" if is_inner(request) else key.id)
        request.ctx.registry = context.registry.restricted_to(key.models)
    if request.route is not None and request.method == "POST":  # other bodies are not read
        _admit_body(request)
    request.ctx.is_admitted = True


def _check_host(request: Request) -> None:
    """Raises Forbidden if a browser may have been led here, where no key is required."""
    context = context_of(request)
    if context.hosts is None or is_inner(request):
        return
    if context.keyring.authenticate(sent_keys(request.headers)) is ANONYMOUS:
        context.hosts.check(request.headers.getall("host", []), request.raw_url)


def _key_of(request: Request, *, for_admin: bool | None) -> ApiKey:
    """The key that ``request`` sends; on the inner socket, the one that it names.

    Raises:
        ApiError: there is no such key, or it is for other routes.
    """
    keyring = context_of(request).keyring
    if is_inner(request) and not for_admin:
        return keyring.known(request.headers.get(KEY_HEADER, ""))
    return keyring.authenticate(sent_keys(request.headers), for_admin=for_admin)


def _admit_body(request: Request) -> None:
    """Check what the head says of the body.

    Raises:
        TooLarge: it has too many bytes.
        ApiError: it has a Content-Encoding that is not supported.
    """
    registry = getattr(request.ctx, "registry", context_of(request).registry)
    limit = request.ctx.max_body_bytes = limit_of(request, registry)
    request.ctx.codings = codings_of(request.headers.getall("content-encoding", []))
    # The server's own request for the answer to a bad head has no size.
    if isinstance(request.stream, Http) and (request.stream.request_bytes or 0) > limit:
        raise TooLarge.of_body(limit)


async def _sign(request: Request, response: BaseHTTPResponse) -> None:
    """Add the headers of every response, also to errors and streams."""
    context = context_of(request)
    if isinstance(request, TimedRequest):
        request.release_body()
    account_of(request).begin_answer()
    if (flight := getattr(request.ctx, "flight", None)) is not None and not flight.is_stream:
        flight.end()
    seconds = time.monotonic() - getattr(request.ctx, "started", time.monotonic())
    response.headers.update(getattr(request.ctx, "headers", {}))
    own = response.headers.get("vary")
    response.headers.update(context.cors.headers_for(request.headers.get("origin")))
    if own is not None and response.headers["vary"] != own:
        response.headers["vary"] = f"{own}, {response.headers['vary']}"
    response.headers["x-request-id"] = response.headers["request-id"] = _id_of(request)
    if (trace := account_of(request).trace) is not None:
        response.headers["traceparent"] = trace.traceparent
    response.headers["openai-processing-ms"] = str(round(seconds * 1000))
    response.headers["openai-version"] = OPENAI_VERSION
    is_last = context.is_draining or is_surplus(request) or is_mistaken(request)
    if is_last and isinstance(request.stream, Http):
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

    def __init__(self) -> None:
        super().__init__()
        self._log = SeldomLog(logger)

    def default(self, request: Request, exception: Exception) -> HTTPResponse:
        limit = request.app.config.REQUEST_MAX_SIZE
        error = from_exception(exception, request.path, request.method, limit)
        if isinstance(exception, RequestCancelled):
            logger.debug("%s %s: the client has left", request.method, request.path)
        elif not isinstance(exception, ApiError) and error.status >= 500:
            self._log.log(
                logging.ERROR,
                _place_of(exception),
                "%s %s",
                request.method,
                request.path,
                exc_info=exception,
            )
        elif error.status >= 500 and error.type != InvalidRequest.type:
            # The same for every request while it lasts.
            line = "%s %s: %s", request.method, request.path, error
            self._log.log(logging.WARNING, error.message, *line)
        account_of(request).note_error(error)
        return error_response(request, error, _id_of(request))


def _place_of(exception: Exception) -> str:
    """Where in the code ``exception`` was raised."""
    frames = traceback.extract_tb(exception.__traceback__, limit=-1)
    place = f"{frames[0].filename}:{frames[0].lineno}" if frames else ""
    return f"{type(exception).__name__} {place}"


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
