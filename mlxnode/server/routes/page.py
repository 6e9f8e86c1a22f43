"""The page for people: the node's answer to browsers, and the files of the page."""

from sanic import Blueprint, HTTPResponse, Request
from sanic.exceptions import NotFound

from mlxnode.server.http.accepted import takes, weights_of
from mlxnode.server.http.context import context_of
from mlxnode.server.page.files import INDEX, Asset, assets

blueprint = Blueprint("page")


# Files, not calls of the API: the OpenAPI document leaves them out.
@blueprint.route(
    "/page/<name:str>", methods=["GET", "HEAD"], ctx_public=True, ctx_is_alias=True
)
async def file(request: Request, name: str) -> HTTPResponse:
    """A file of the page; needs no key."""
    asset = assets().get(name)
    if asset is None or name == INDEX or not context_of(request).config.server.page:
        raise NotFound(f"Requested URL {request.path} not found")
    return _response(request, asset)


def page_for(request: Request) -> HTTPResponse | None:
    """The page, if ``request`` comes from a browser and there is a page."""
    if not context_of(request).config.server.page or not _takes_html(request):
        return None
    response = _response(request, assets()[INDEX])
    response.headers["vary"] = "Accept, Accept-Encoding"
    return response


def _response(request: Request, asset: Asset) -> HTTPResponse:
    sent = request.headers
    tags = ", ".join(sent.getall("if-none-match", []))
    answer = asset.answer(tags, is_gzip=takes(sent.getall("accept-encoding", []), "gzip"))
    return HTTPResponse(
        answer.body,
        status=answer.status,
        headers=answer.headers,
        content_type=answer.content_type,
    )


def _takes_html(request: Request) -> bool:
    """True if the client names HTML, and prefers no JSON: what clients of APIs do not do."""
    weights = weights_of(request.headers.getall("accept", []))
    html = weights.get("text/html", 0.0)
    return html > 0 and html >= weights.get("application/json", 0.0)
