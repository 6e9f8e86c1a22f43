"""``POST /v1/responses``."""

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.answer.conversation import chat_request
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.logprobs import LogprobWriter
from mlxnode.server.formats.chat.reasoning import without_effect
from mlxnode.server.formats.responses.answers import Response
from mlxnode.server.formats.responses.draft import draft_of
from mlxnode.server.formats.responses.events import EVENTS
from mlxnode.server.formats.responses.history import unread
from mlxnode.server.formats.responses.output import ItemForms
from mlxnode.server.formats.responses.request import to_conversation
from mlxnode.server.formats.responses.schema import ResponsesBody
from mlxnode.server.formats.responses.tools import Offer, chosen, offers_of
from mlxnode.server.formats.responses.writer import ResponsesWriter
from mlxnode.server.http.body import name_ignored, read_body
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.registry import TextModel
from mlxnode.server.routes.generate import generate

blueprint = Blueprint("responses")


@blueprint.post(
    "/v1/responses",
    ctx_models=("chat",),
    ctx_body=ResponsesBody,
    ctx_answer=Response,
    ctx_event=EVENTS,
)
async def responses(request: Request) -> HTTPResponse | None:
    """Answer a conversation of items, whole or as a stream of events."""
    body = read_body(request, ResponsesBody)
    context = context_of(request)
    model = registry_of(request).find_chat(body.model)
    context.engine.check_connected()
    ignored = [
        *unread(body.items),
        *without_effect(body, model.tokenizer.chat_template.switches),
    ]
    if body.store:
        ignored.append("store")
    if ignored:
        name_ignored(request, ignored)
    if body.previous_response_id:
        raise InvalidRequest("no store", param="previous_response_id")
    offers = offers_of(body.tools or [])
    generation_request = await chat_request(
        to_conversation(body, body.items, chosen(offers, body.tool_choice)),
        body.settings,
        model,
        closed=context.config.server.closed_objects,
    )
    writer = ResponsesWriter(
        draft_of(body, model, is_stored=False), _forms(body, model, offers)
    )
    return await generate(request, generation_request, writer, is_stream=bool(body.stream))


def _forms(body: ResponsesBody, model: TextModel, offers: list[Offer]) -> ItemForms:
    has_logprobs = body.num_logprobs is not None
    return ItemForms(
        summarises=body.reasoning is not None and body.reasoning.wants_summary,
        seals=body.wants_sealed_thoughts,
        tools={offer.function.name: offer.address for offer in offers},
        logprobs=LogprobWriter(model.tokenizer.token_bytes) if has_logprobs else None,
    )
