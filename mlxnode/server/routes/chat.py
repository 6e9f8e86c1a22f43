"""``POST /v1/chat/completions``."""

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.answer import affinity
from mlxnode.server.answer.conversation import chat_request
from mlxnode.server.formats.chat.answers import ChatChunk, ChatCompletion
from mlxnode.server.formats.chat.reasoning import without_effect
from mlxnode.server.formats.chat.request import to_conversation
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.chat.writer import ChatWriter
from mlxnode.server.http.body import name_ignored, read_body, size_of
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.prompt.lanes import off_loop
from mlxnode.server.routes.generate import Prepared, generate

blueprint = Blueprint("chat")


@blueprint.post(
    "/v1/chat/completions",
    ctx_models=("chat",),
    ctx_body=ChatBody,
    ctx_answer=ChatCompletion,
    ctx_event=ChatChunk,
)
async def chat_completions(request: Request) -> HTTPResponse | None:
    """Answer a conversation, whole or as a stream."""
    body = await read_body(request, ChatBody)
    return await generate(
        request, _prepare(request, body), ChatWriter, is_stream=bool(body.stream)
    )


async def _prepare(request: Request, body: ChatBody) -> Prepared:
    model = await registry_of(request).find_chat(body.model)
    context_of(request).engine.check_connected()
    if ignored := without_effect(body, model.tokenizer.chat_template.switches):
        name_ignored(request, ignored)
    size = size_of(request)
    closed = context_of(request).config.server.closed_objects
    conversation = await off_loop(size, to_conversation, body)
    tools = [*(body.tools or ()), *(body.functions or ())]
    key = request.ctx.key_id
    own = await off_loop(size, affinity.of_conversation, key, model, conversation, tools)
    generation_request = await chat_request(
        conversation,
        body.settings,
        model,
        size=size,
        closed=closed,
    )
    writer = ChatWriter(
        model.served,
        include_usage=body.include_usage,
        token_bytes=None if body.num_logprobs is None else model.tokenizer.token_bytes,
        num_choices=body.num_choices,
        has_service_tier=body.service_tier is not None,
        has_functions=body.has_functions,
    )
    return Prepared(generation_request, writer, own)
