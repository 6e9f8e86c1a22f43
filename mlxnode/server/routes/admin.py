"""For the administrator, whose keys these routes take alone: status, keys and usage."""

import asyncio

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.formats.admin import Key, KeyList, UsageList, UsageQuery
from mlxnode.server.http.body import json_response
from mlxnode.server.http.context import context_of
from mlxnode.server.http.query import read_query

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


@blueprint.get("/admin/usage", ctx_admin=True)
async def usage(request: Request) -> HTTPResponse:
    """What each key has used: ``?from=2026-01-01&to=2026-01-31&by=key``."""
    asked = read_query(request, UsageQuery)
    first, last = asked.days
    # In a thread: it reads a file.
    rows = await asyncio.to_thread(
        context_of(request).read_usage,
        first=first,
        last=last,
        key=asked.key,
        model=asked.model,
        by=("day", "key", "model") if asked.by is None else (asked.by,),
    )
    return json_response(UsageList(rows))
