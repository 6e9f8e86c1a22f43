"""The server itself: ``/openapi.json``, ``/health`` and ``/``."""

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.errors import SHUTTING_DOWN, Unavailable
from mlxnode.server.formats.info import Health, RankHealth, Root, Unhealthy
from mlxnode.server.http.body import json_response
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.http.openapi import describe
from mlxnode.server.routes.page import page_for

blueprint = Blueprint("info")

_READ = ["GET", "HEAD"]
_MAX_DOCUMENTS = 32  # of some 300 KB; keys and models change


@blueprint.route("/", methods=_READ, ctx_public=True, ctx_answer=Root)
async def root(request: Request) -> HTTPResponse:
    """What this is; needs no key. Browsers get a page for people."""
    if (page := page_for(request)) is not None:
        return page
    context = context_of(request)
    answer = Root(
        key_required=context.config.api.require_auth,
        has_admin_key=context.keyring.has_admin,
    )
    return json_response(answer, headers={"vary": "Accept"})


@blueprint.route("/openapi.json", methods=_READ)
async def openapi(request: Request) -> HTTPResponse:
    """This document."""
    documents, registry = request.app.ctx.documents, registry_of(request)
    context = context_of(request)
    facts = await registry.facts()
    kind = (context.rate_limiter.enabled, registry.catalog.version, *registry.served)
    if kind not in documents:
        if len(documents) >= _MAX_DOCUMENTS:
            documents.clear()
        described = describe(request.app, context, registry, facts)
        documents[kind] = msgspec.json.encode(described)
    return HTTPResponse(documents[kind], content_type="application/json")


@blueprint.route("/health", methods=_READ, ctx_public=True, ctx_answer=Health)
async def health(request: Request) -> HTTPResponse:
    """Whether requests can be served now; needs no key."""
    context = context_of(request)
    if context.is_leaving:
        raise Unavailable(SHUTTING_DOWN)
    ranks = [RankHealth(r.rank, r.host, r.state, r.reason) for r in context.ranks]
    try:
        context.engine.check_answering()
    except Unavailable as error:
        if not ranks:
            raise
        answer = Unhealthy(error.to_envelope().error, ranks)
        return json_response(answer, error.status, headers=error.headers)
    return json_response(
        Health("ok", "ok", sorted(context.registry.failed), ranks or msgspec.UNSET)
    )
