"""``POST /v1/responses``, and the number of tokens of such a request."""

import functools
from typing import Any, NamedTuple

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.answer import affinity
from mlxnode.server.answer.conversation import ask, chat_request
from mlxnode.server.answer.request import GenerationRequest
from mlxnode.server.answer.truncation import without_oldest_turns
from mlxnode.server.errors import InvalidRequest, NotFound
from mlxnode.server.formats.chat.logprobs import LogprobWriter
from mlxnode.server.formats.chat.reasoning import without_effect
from mlxnode.server.formats.responses.answers import InputTokenCount, Response
from mlxnode.server.formats.responses.draft import draft_of
from mlxnode.server.formats.responses.events import EVENTS
from mlxnode.server.formats.responses.history import unread
from mlxnode.server.formats.responses.items import Item, ReferenceItem
from mlxnode.server.formats.responses.output import ItemForms
from mlxnode.server.formats.responses.request import to_conversation
from mlxnode.server.formats.responses.schema import ResponsesBody
from mlxnode.server.formats.responses.stored import read_items, to_stored
from mlxnode.server.formats.responses.tools import Offer, chosen, offers_of
from mlxnode.server.formats.responses.writer import ResponsesWriter
from mlxnode.server.http.accounting import charge
from mlxnode.server.http.body import json_response, name_ignored, read_body, size_of
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.http.stored_responses import key_store, required_store
from mlxnode.server.prompt.conversation import Conversation
from mlxnode.server.prompt.lanes import off_loop, off_loop_if
from mlxnode.server.registry.opened import TextModel
from mlxnode.server.routes.generate import Prepared, generate

blueprint = Blueprint("responses")

_MANY_ITEMS = 100  # more would block the event loop
_ITEM_SIZE = 200  # bytes that take as long as a short item


class _History(NamedTuple):
    """``before`` are the stored items; ``affinity`` is that of the stored answer, if any."""

    before: list[dict[str, Any]]
    items: list[Item]
    affinity: str | None


@blueprint.post(
    "/v1/responses",
    ctx_models=("chat",),
    ctx_body=ResponsesBody,
    ctx_answer=Response,
    ctx_event=EVENTS,
)
async def responses(request: Request) -> HTTPResponse | None:
    """Answer a conversation of items, whole or as a stream of events."""
    body = await read_body(request, ResponsesBody)
    return await generate(
        request, _prepare(request, body), ResponsesWriter, is_stream=bool(body.stream)
    )


async def _prepare(request: Request, body: ResponsesBody) -> Prepared:
    model = await registry_of(request).find_chat(body.model)
    context_of(request).engine.check_connected()
    store = None if body.store is False else key_store(request)
    _name_ignored(request, body, model)
    before, items, own = await _history(request, body)
    offers = offers_of(body.tools or [])
    size = max(size_of(request), len(items) * _ITEM_SIZE)
    offered = chosen(offers, body.tool_choice)
    conversation = await off_loop(size, to_conversation, body, items, offered)
    if own is None:
        key = request.ctx.key_id
        own = await off_loop(
            size, affinity.of_conversation, key, model, conversation, body.tools
        )
    generation_request = await _generation_request(request, body, conversation, model)
    draft = draft_of(body, model, is_stored=store is not None)
    keep = None
    if store is not None:
        stored = [*before, *to_stored(items[len(before) :], draft.id)]
        keep = functools.partial(store.keep, input=stored, affinity=own)
    writer = ResponsesWriter(draft, _forms(body, model, offers), keep)
    return Prepared(generation_request, writer, own)


@blueprint.post(
    "/v1/responses/input_tokens",
    ctx_models=("chat",),
    ctx_body=ResponsesBody,
    ctx_answer=InputTokenCount,
)
async def count_input_tokens(request: Request) -> HTTPResponse:
    """Count the tokens that the model would get."""
    body = await read_body(request, ResponsesBody)
    model = await registry_of(request).find_chat(body.model)
    _name_ignored(request, body, model)
    items = (await _history(request, body)).items
    offers = chosen(offers_of(body.tools or []), body.tool_choice)
    size = max(size_of(request), len(items) * _ITEM_SIZE)
    conversation = await off_loop(size, to_conversation, body, items, offers)
    asked = await ask(conversation, model, size=size)
    charge(request, model.served.id)
    return json_response(InputTokenCount(len(asked.prompt.ids)))


def _name_ignored(request: Request, body: ResponsesBody, model: TextModel) -> None:
    switches = model.tokenizer.chat_template.switches
    ignored = [*unread(body.items), *without_effect(body, switches)]
    if body.store and key_store(request) is None:
        ignored.append("store")
    if ignored:
        name_ignored(request, ignored)


async def _history(request: Request, body: ResponsesBody) -> _History:
    """What ``body`` goes on from, and all items, references resolved.

    Raises:
        InvalidRequest: there is no such answer, or the node stores none.
        NotFound: there is no such item.
    """
    before: list[dict[str, Any]] = []
    own = None
    if body.previous_response_id is not None:
        store = required_store(request, "previous_response_id")
        try:
            previous = await store.find(body.previous_response_id)
        except NotFound as error:
            raise InvalidRequest(
                f"Previous response with id '{body.previous_response_id}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            ) from error
        before, own = previous.conversation, previous.affinity
    items = await off_loop_if(len(before) > _MANY_ITEMS, read_items, before)
    for index, item in enumerate(body.items):
        if isinstance(item, ReferenceItem):
            param = f"input[{index}]"
            if item.is_thought and key_store(request) is None:
                # The AI SDK sends it by default. The model can go on without its old thought.
                name_ignored(request, [f"{param} (reasoning)"])
                continue
            store = required_store(request, param)
            items += read_items([await store.find_item(item.id, param)])
        else:
            items.append(item)
    return _History(before, items, own)


async def _generation_request(
    request: Request, body: ResponsesBody, conversation: Conversation, model: TextModel
) -> GenerationRequest:
    """Raises InvalidRequest: see ``chat_request``."""
    closed = context_of(request).config.server.closed_objects
    settings, size = body.settings, size_of(request)
    try:
        return await chat_request(conversation, settings, model, size=size, closed=closed)
    except InvalidRequest as error:
        if error.code != "context_length_exceeded" or body.truncation != "auto":
            raise
    shorter = await without_oldest_turns(conversation, model, settings.max_tokens, size=size)
    return await chat_request(shorter, settings, model, size=size, closed=closed)


def _forms(body: ResponsesBody, model: TextModel, offers: list[Offer]) -> ItemForms:
    has_logprobs = body.num_logprobs is not None
    return ItemForms(
        summarises=body.reasoning is not None and body.reasoning.wants_summary,
        seals=body.wants_sealed_thoughts,
        tools={offer.function.name: offer.address for offer in offers},
        logprobs=LogprobWriter(model.tokenizer.token_bytes) if has_logprobs else None,
    )
