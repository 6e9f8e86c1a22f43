"""``/metrics``: what Prometheus reads, by whom the configuration lets."""

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.config.tables import MetricsAccess
from mlxnode.figures import NodeFigures
from mlxnode.server.errors import Unavailable
from mlxnode.server.http.accepted import preferred_of, takes
from mlxnode.server.http.context import context_of

_TEXT = "text/plain"
_OPENMETRICS = "application/openmetrics-text"
_TYPES = {
    _TEXT: "text/plain; version=0.0.4; charset=utf-8",
    _OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
}


def blueprint_of(access: MetricsAccess) -> Blueprint:
    """The route for those with ``access``; nobody has it without one."""
    blueprint = Blueprint("metrics")
    if access != "off":
        blueprint.add_route(
            metrics,
            "/metrics",
            methods=["GET", "HEAD"],
            ctx_public=access == "public",
            ctx_operates=access == "admin",
            ctx_unlisted=True,
            ctx_media_types=tuple(_TYPES),
        )
    return blueprint


async def metrics(request: Request) -> HTTPResponse:
    """The figures of the node for Prometheus, as text or as OpenMetrics."""
    own, batches = context_of(request).metrics, context_of(request).batches
    if own is None:
        raise Unavailable("This worker has no metrics")
    kind = preferred_of(request.headers.getall("accept", []), list(_TYPES))
    is_compressed = takes(request.headers.getall("accept-encoding", []), "gzip")
    try:
        rendered = await own.render(
            await _figures(request),
            "openmetrics" if kind == _OPENMETRICS else "text",
            is_compressed=is_compressed,
            store=None if batches is None else batches.folder,
        )
    except (OSError, EOFError) as error:
        raise Unavailable(f"The metrics cannot be rendered: {error or 'it ended'}") from error
    headers = {"vary": "accept, accept-encoding", "cache-control": "no-store"}
    if is_compressed:
        headers["content-encoding"] = "gzip"
    return HTTPResponse(rendered, headers=headers, content_type=_TYPES[kind])


async def _figures(request: Request) -> NodeFigures | None:
    """The figures of the node; None if the supervisor does not tell them."""
    try:
        return (await context_of(request).figures.latest()).figures
    except Unavailable:
        return None
