"""For the administrator: ``/admin/status`` and ``/admin/keys``; they take admin keys only."""

import asyncio

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.formats.admin import Key, KeyList
from mlxnode.server.http.body import json_response
from mlxnode.server.http.context import context_of

blueprint = Blueprint("admin")


@blueprint.get("/admin/status", ctx_admin=True)
async def status(request: Request) -> HTTPResponse:
    """The figures of the node, as ``mlxnode status --json`` prints them."""
    # In a thread: the supervisor may be slow to answer.
    return json_response(await asyncio.to_thread(context_of(request).read_figures))


@blueprint.get("/admin/keys", ctx_admin=True)
async def keys(request: Request) -> HTTPResponse:
    """Who may enter now: the names of the keys, never the keys."""
    known = [
        Key(key.id, key.is_admin, None if key.models is None else sorted(key.models))
        for key in context_of(request).keyring.keys
    ]
    return json_response(KeyList(known))
