"""``POST /v1/messages`` and ``POST /v1/messages/count_tokens``."""

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.answer import affinity
from mlxnode.server.answer.conversation import ask, chat_request
from mlxnode.server.formats.messages.answers import AnswerMessage, TokenCount
from mlxnode.server.formats.messages.errors import MessagesErrorEnvelope
from mlxnode.server.formats.messages.events import StreamEvent
from mlxnode.server.formats.messages.request import settings_of, to_conversation, without_effect
from mlxnode.server.formats.messages.schema import MessagesBody, PromptBody, Thinking
from mlxnode.server.formats.messages.writer import Display, MessagesWriter
from mlxnode.server.http.accounting import charge
from mlxnode.server.http.body import json_response, name_ignored, read_body, size_of
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.prompt.lanes import off_loop
from mlxnode.server.registry.opened import TextModel
from mlxnode.server.routes.generate import Prepared, generate

blueprint = Blueprint("messages")


@blueprint.post(
    "/v1/messages",
    ctx_models=("chat",),
    ctx_body=MessagesBody,
    ctx_answer=AnswerMessage,
    ctx_event=StreamEvent,
    ctx_error=MessagesErrorEnvelope,
)
async def messages(request: Request) -> HTTPResponse | None:
    """Answer a conversation as Anthropic's API does, whole or as a stream."""
    body = await read_body(request, MessagesBody)
    return await generate(
        request, _prepare(request, body), MessagesWriter, is_stream=bool(body.stream)
    )


async def _prepare(request: Request, body: MessagesBody) -> Prepared:
    model = await _model(request, body)
    context_of(request).engine.check_connected()
    size = size_of(request)
    closed = context_of(request).config.server.closed_objects
    conversation = await off_loop(size, to_conversation, body)
    key = request.ctx.key_id
    own = await off_loop(size, affinity.of_conversation, key, model, conversation, body.tools)
    generation_request = await chat_request(
        conversation,
        settings_of(body),
        model,
        size=size,
        closed=closed,
    )
    writer = MessagesWriter(
        model.served,
        display=_display(body.thinking),
        request_id=request.ctx.request_id,
    )
    return Prepared(generation_request, writer, own)


@blueprint.post(
    "/v1/messages/count_tokens",
    ctx_models=("chat",),
    ctx_body=PromptBody,
    ctx_answer=TokenCount,
    ctx_error=MessagesErrorEnvelope,
)
async def count_tokens(request: Request) -> HTTPResponse:
    """The exact number of tokens of a prompt, without an answer to it."""
    body = await read_body(request, PromptBody)
    size = size_of(request)
    conversation = await off_loop(size, to_conversation, body)
    model = await _model(request, body)
    asked = await ask(conversation, model, size=size)
    charge(request, model.served.id)
    return json_response(TokenCount(len(asked.prompt.ids)))


async def _model(request: Request, body: PromptBody) -> TextModel:
    """The model of ``body``. What of the body changes nothing for it is named in a header."""
    model = await registry_of(request).find_chat(body.model)
    if ignored := without_effect(body, model.tokenizer.chat_template.switches):
        name_ignored(request, ignored)
    return model


def _display(thinking: Thinking | None) -> Display:
    """Thoughts are shown unless the client has switched them off, or does not want the text.

    A model that thinks by itself does so for every client: its thoughts are no part of the
    text, whether or not the client has asked for them.
    """
    if thinking is not None and thinking.type == "disabled":
        return Display.LEFT_OUT
    if thinking is not None and thinking.display == "omitted":
        return Display.OMITTED
    return Display.SHOWN
