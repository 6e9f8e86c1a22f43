"""``/v1/responses/{response_id}``: the answers that are stored."""

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.errors import InvalidRequest, NotFound
from mlxnode.server.formats.responses.answers import DeletedResponse, ItemList, Response
from mlxnode.server.formats.responses.queries import InputItemsQuery, RetrieveQuery
from mlxnode.server.http.body import json_response
from mlxnode.server.http.query import read_query
from mlxnode.server.http.stored_responses import key_store, stored

blueprint = Blueprint("stored_responses")


@blueprint.get("/v1/responses/<response_id>", ctx_answer=Response, ctx_query=RetrieveQuery)
async def stored_response(request: Request, response_id: str) -> HTTPResponse:
    """A stored answer."""
    read_query(request, RetrieveQuery)
    found = await stored(request, response_id)
    return HTTPResponse(bytes(found.response), content_type="application/json")


@blueprint.delete("/v1/responses/<response_id>", ctx_answer=DeletedResponse)
async def delete_response(request: Request, response_id: str) -> HTTPResponse:
    """Forget a stored answer."""
    await stored(request, response_id)
    if (store := key_store(request)) is not None:
        await store.delete(response_id)
    return json_response(DeletedResponse(response_id))


@blueprint.post("/v1/responses/<response_id>/cancel", ctx_answer=Response)
async def cancel_response(request: Request, response_id: str) -> HTTPResponse:
    """Refuse: an answer that is stored is complete, as none is made in the background."""
    await stored(request, response_id)
    raise InvalidRequest(
        "Only an answer that is made in the background can be cancelled; end the request "
        "itself instead.",
        param="response_id",
        code="not_in_background",
    )


@blueprint.get(
    "/v1/responses/<response_id>/input_items",
    ctx_answer=ItemList,
    ctx_query=InputItemsQuery,
)
async def input_items(request: Request, response_id: str) -> HTTPResponse:
    """The items that a stored answer was made from, those of earlier answers included."""
    query = read_query(request, InputItemsQuery)
    items = (await stored(request, response_id)).input
    if query.order == "desc":
        items = items[::-1]
    if query.after:
        place = next((i for i, item in enumerate(items) if item["id"] == query.after), None)
        if place is None:
            raise NotFound(
                f"Item with id '{query.after}' not found.", param="after", code="item_not_found"
            )
        items = items[place + 1 :]
    page = items[: query.limit]
    ids = [item["id"] for item in page] or [None]
    return json_response(ItemList(page, ids[0], ids[-1], has_more=len(items) > query.limit))
