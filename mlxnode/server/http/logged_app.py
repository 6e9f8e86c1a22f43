"""Sanic's application, with one entry in the request log for each request."""

from datetime import UTC, datetime

from sanic import Request, Sanic
from sanic.http import Http, Stage

from mlxnode.server.errors import Cancelled
from mlxnode.server.http.accounting import Account, account_of, has_account
from mlxnode.server.http.context import context_of
from mlxnode.server.http.request_log import Entry, Outcome
from mlxnode.server.http.spans import span_of
from mlxnode.server.http.trace import TraceContext, current, trace_of
from mlxnode.server.metrics.ended import Ended

_REFUSALS = (501, 505)  # of methods and of versions of HTTP


class LoggedApp(Sanic):
    """Writes the entry when the answer has ended, whether well, with an error or not at all."""

    async def handle_request(self, request: Request) -> None:
        """Answer a request whose head is read."""
        _begin(request)
        with context_of(request).in_flight.following(request) as flight:
            try:
                with flight.cancellable():
                    await super().handle_request(request)
            except Cancelled as error:
                await super().handle_exception(request, error)
            finally:
                _log(request)

    async def handle_exception(
        self, request: Request, exception: BaseException, run_middleware: bool = True
    ) -> None:
        """Answer with an error, also to a head that cannot be read and thus is no request."""
        is_first = not has_account(request)
        if is_first:
            _begin(request)
        try:
            await super().handle_exception(request, exception, run_middleware)
        finally:
            if is_first:
                _log(request)


def _begin(request: Request) -> None:
    """The time of ``request`` begins, and its part of a trace."""
    account, headers = account_of(request), request.headers
    account.trace = trace_of(
        headers.getall("traceparent", []), headers.getall("tracestate", [])
    )
    if account.trace is None and context_of(request).config.server.tracing:
        account.trace = TraceContext.begin()
    current.set(account.trace)


def _log(request: Request) -> None:
    context = context_of(request)
    log, write_span = context.request_log, context.write_span
    counts = None if context.metrics is None else context.metrics.counts
    if log is None and write_span is None and counts is None:
        return
    entry = entry_of(request)
    if log is not None:
        log.write(entry)
    if counts is not None:
        counts.end(_ended_of(entry, account_of(request)))
    if write_span is not None and (span := span_of(request, entry)) is not None:
        write_span(span)


def _ended_of(entry: Entry, account: Account) -> Ended:
    """What is counted of the request that has ``entry`` and ``account``."""
    usage, timing = account.usage, account.timing
    return Ended(
        route=entry.path,
        method=entry.method,
        status=entry.status,
        outcome=entry.outcome,
        model=entry.model,
        key=entry.key,
        error=entry.error,
        seconds=account.seconds,
        asked=account.asked_engine,
        queued=timing and timing.queued,
        computed=timing and timing.computed,
        first_token=account.first_output,
        tokens=usage and (usage.prompt, usage.cached, usage.completion),
        num_keep_alives=account.num_keep_alives,
    )


def entry_of(request: Request) -> Entry:
    """The entry of ``request``, whose answer has ended."""
    account = account_of(request)
    usage = account.usage
    http = request.stream if isinstance(request.stream, Http) else None
    status = http.response.status if http is not None and http.response else None
    received = datetime.fromtimestamp(account.received_at, UTC)
    return Entry(
        time=received.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        id=getattr(request.ctx, "request_id", None),
        key=getattr(request.ctx, "key_id", None),
        method=request.method if request.route else None,
        path=f"/{request.route.path}" if request.route else None,
        model=account.model,
        status=status,
        outcome=_outcome(http, status, account.error),
        error=account.error,
        prompt_tokens=usage.prompt if usage else 0,
        cached_tokens=usage.cached if usage else 0,
        completion_tokens=usage.completion if usage else 0,
        asked_s=_rounded(account.asked_engine),
        first_token_s=_rounded(account.first_output),
        total_s=_rounded(account.seconds),
        trace_id=account.trace and account.trace.trace_id,
        span_id=account.trace and account.trace.span_id,
        background=account.is_background,
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _outcome(http: Http | None, status: int | None, error: str | None) -> Outcome:
    if http is None or http.stage is not Stage.IDLE:  # the answer has no end
        return "left" if http is None or _has_left(http) else "cut"
    if error == Cancelled.code:
        return "cancelled"
    if status is None or (error and status < 400):
        return "failed"
    if status < 400:
        return "done"
    return "failed" if status >= 500 and status not in _REFUSALS else "refused"


def _has_left(http: Http) -> bool:
    transport, info = http.protocol.transport, http.protocol.conn_info
    return transport is None or transport.is_closing() or (info is not None and info.lost)
