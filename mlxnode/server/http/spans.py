"""A request that has ended, as a span: the semantic conventions of OpenTelemetry.

A span has the facts of the request log and the times of the engine; never a prompt, an answer,
a key or a URL that is no route.
"""

from collections.abc import Iterator

from sanic import Request

from mlxnode.server.http.accounting import Account, account_of
from mlxnode.server.http.request_log import Entry
from mlxnode.server.http.trace import TraceContext
from mlxnode.server.tracing.span import Part, RequestSpan

_OPERATIONS = {  # gen_ai.operation.name
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}


def span_of(request: Request, entry: Entry) -> RequestSpan | None:
    """The span of ``request``; None for the probe of a balancer that is in no trace."""
    account, route = account_of(request), request.route
    trace = account.trace
    parent = trace and trace.parent_id
    if not parent and route is not None and getattr(route.ctx, "public", False):
        return None
    seconds = account.seconds
    method = entry.method or "_OTHER"
    return RequestSpan(
        name="HTTP" if entry.path is None else f"{method} {entry.path}",
        received_at=account.received_at,
        seconds=seconds,
        attributes=_attributes(request, entry, account) | {"http.request.method": method},
        parts=[_within(seconds, part) for part in _parts(account, seconds)],
        parent=_parent_of(trace) if trace is not None and parent else None,
        trace_id=trace and trace.trace_id,
        span_id=trace and trace.span_id,
        error=_error_of(entry),
    )


def _parent_of(trace: TraceContext) -> dict[str, str]:
    """The headers of the client's span."""
    flags = f"{trace.is_sampled:02x}"
    headers = {"traceparent": f"00-{trace.trace_id}-{trace.parent_id}-{flags}"}
    return headers | ({"tracestate": trace.state} if trace.state else {})


def _attributes(
    request: Request, entry: Entry, account: Account
) -> dict[str, str | int | list[str]]:
    known: dict[str, str | int | list[str] | None] = {
        "http.route": entry.path,
        "url.path": entry.path and request.path,
        "url.scheme": request.scheme,
        "http.response.status_code": entry.status,
        "network.protocol.version": request.version,
        "error.type": entry.error or (entry.outcome if entry.outcome == "cut" else None),
        "mlxnode.request_id": entry.id,
        "mlxnode.key": entry.key,
        "mlxnode.outcome": entry.outcome,
        "mlxnode.background": True if account.is_background else None,  # of a batch
    }
    if entry.model is not None:
        known |= {
            "gen_ai.provider.name": "mlxnode",
            "gen_ai.operation.name": _OPERATIONS.get(entry.path or ""),
            "gen_ai.request.model": entry.model,
            "gen_ai.response.finish_reasons": account.finish_reasons or None,
        }
    if account.usage is not None:
        known |= {
            "gen_ai.response.model": entry.model,
            "gen_ai.usage.input_tokens": entry.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": entry.cached_tokens,
            "gen_ai.usage.output_tokens": entry.completion_tokens,
        }
    return {name: value for name, value in known.items() if value is not None}


def _parts(account: Account, seconds: float) -> Iterator[Part]:
    """What the request did, one after the other; only writing goes on beside the rest.

    ``wait`` stands for ``queue`` and ``prefill`` where the engine has not told them, as of a
    client that left before the first token.
    """
    asked = account.asked_engine
    yield Part("prepare", 0.0, seconds if asked is None else asked)
    if asked is not None:
        timing, first, last = account.timing, account.first_output, account.last_output
        if timing is None:
            yield Part("wait", asked, seconds if first is None else first)
            computed = first
        else:
            begun = asked + timing.queued
            computed = begun + timing.computed
            yield Part("queue", asked, begun)
            yield Part("compute" if first is None else "prefill", begun, computed)
        if computed is not None and last is not None:
            yield Part("decode", computed, max(computed, last))
    if account.answered is not None:
        yield Part("write", account.answered, seconds)


def _within(seconds: float, part: Part) -> Part:
    """``part`` within the request: the clocks of two processes measure its times."""
    return Part(part.name, min(part.begin, seconds), min(part.end, seconds))


def _error_of(entry: Entry) -> str | None:
    """Why the node failed. A client that errs or leaves, or a cancel, is no error of it."""
    if entry.outcome == "cut":
        return entry.error or "the node ended the answer"
    return (entry.error or "failed") if entry.outcome == "failed" else None
