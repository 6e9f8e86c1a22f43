"""``/v1/figures``: the node, live; and its requests in flight, which can be cancelled."""

import msgspec
from msgspec.structs import asdict
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.answer.sse import EventStream, StreamStart
from mlxnode.server.errors import ApiError, NotFound
from mlxnode.server.formats.figures import (
    CancelBody,
    Cancelling,
    Figures,
    FiguresQuery,
    RequestList,
)
from mlxnode.server.http.accounting import account_of
from mlxnode.server.http.auth import sent_keys
from mlxnode.server.http.body import json_response, read_optional_body
from mlxnode.server.http.context import context_of
from mlxnode.server.http.figures_feed import Snapshot
from mlxnode.server.http.figures_view import Viewer
from mlxnode.server.http.query import read_query

blueprint = Blueprint("figures")


@blueprint.get(
    "/v1/figures",
    ctx_any_key=True,
    ctx_unlisted=True,
    ctx_query=FiguresQuery,
    ctx_answer=Figures,
    ctx_event=(Figures,),
)
async def figures(request: Request) -> HTTPResponse | None:
    """The node, live: an event each second, or one document with ``once`` or as JSON."""
    query, feed = read_query(request, FiguresQuery), context_of(request).figures
    accepted = request.headers.get("accept", "")
    wants_json = "application/json" in accepted and "text/event-stream" not in accepted
    if query.once or wants_json:
        snapshot = await feed.latest()
        return json_response(_viewer_of(request).figures(snapshot, with_history=True))
    with feed.watching(request.ctx.key_id):
        snapshot = await feed.latest()
        stream = await StreamStart(request, 0.0).begin()
        await _send_events(request, stream, snapshot)
    return None


@blueprint.get("/v1/requests", ctx_any_key=True, ctx_unlisted=True, ctx_answer=RequestList)
async def list_requests(request: Request) -> HTTPResponse:
    """The requests in flight: of the key, or all of them for an admin key."""
    snapshot = await context_of(request).figures.latest()
    return json_response(_viewer_of(request).requests(snapshot.figures))


@blueprint.post(
    "/v1/requests/<request_id>/cancel",
    ctx_any_key=True,
    ctx_unlisted=True,
    ctx_optional_body=CancelBody,
    ctx_answer=Cancelling,
)
async def cancel_request(request: Request, request_id: str) -> HTTPResponse:
    """End a request in flight, by its id of ``/v1/requests``; its client gets an error."""
    await read_optional_body(request, CancelBody)
    context = context_of(request)
    snapshot = await context.figures.latest()
    for known in _viewer_of(request).requests(snapshot.figures).data:
        if known.id == request_id:
            context.cancel(request_id)
            return json_response(Cancelling(**asdict(known)))
    raise NotFound(
        f"No request '{request_id}' is in flight.", param="request_id", code="request_not_found"
    )


async def _send_events(request: Request, stream: EventStream, snapshot: Snapshot) -> None:
    """An event for each snapshot. An error is the last event: the client may connect again."""
    with_history = True
    try:
        while True:
            await stream.write(_event_of(_viewer_of(request), snapshot, with_history))
            with_history = False
            snapshot = await context_of(request).figures.after(snapshot)
    except ApiError as error:
        account_of(request).note_error(error)
        await stream.end(_framed("error", msgspec.json.encode(error.to_envelope())))


def _viewer_of(request: Request) -> Viewer:
    """Who asks, as the keys of this moment say.

    Raises:
        Unauthorized: the key is not accepted any more.
    """
    context = context_of(request)
    key = context.keyring.authenticate(sent_keys(request.headers), for_admin=None)
    return Viewer.of(key, context.keyring, context.registry)


def _event_of(viewer: Viewer, snapshot: Snapshot, with_history: bool) -> bytes:
    """The event, which is the same for all who see the same."""
    kind = viewer.key.id, viewer.sees_all, viewer.key.models, with_history
    return snapshot.encode(
        kind,
        lambda: _framed(
            "figures", msgspec.json.encode(viewer.figures(snapshot, with_history=with_history))
        ),
    )


def _framed(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
