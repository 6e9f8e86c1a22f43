"""``POST /v1/chat/completions``."""

import functools

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.answer.request import GenerationRequest
from mlxnode.server.constraints.tool_grammar import Writing, answer_grammar
from mlxnode.server.formats.chat.answers import ChatChunk, ChatCompletion
from mlxnode.server.formats.chat.reasoning import without_effect
from mlxnode.server.formats.chat.request import to_conversation
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.chat.writer import ChatWriter
from mlxnode.server.formats.sampling import samplings_of, stop_ids_of, thinking_limit
from mlxnode.server.http.body import name_ignored, read_body
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.parsing.output_parser import OutputParser
from mlxnode.server.prompt.context_length import fit_prompt
from mlxnode.server.prompt.tools import tool_use
from mlxnode.server.registry import TextModel
from mlxnode.server.routes.generate import generate

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
    body = read_body(request, ChatBody)
    model = registry_of(request).find_chat(body.model)
    context_of(request).engine.check_connected()
    if ignored := without_effect(body, model.tokenizer.chat_template.switches):
        name_ignored(request, ignored)
    closed = context_of(request).config.server.closed_objects
    generation_request = await _to_generation_request(body, model, closed=closed)
    writer = ChatWriter(
        model.served,
        include_usage=body.include_usage,
        token_bytes=None if body.num_logprobs is None else model.tokenizer.token_bytes,
        num_choices=body.num_choices,
        has_service_tier=body.service_tier is not None,
    )
    return await generate(request, generation_request, writer, is_stream=bool(body.stream))


async def _to_generation_request(
    body: ChatBody, model: TextModel, *, closed: bool
) -> GenerationRequest:
    template = model.tokenizer.chat_template
    conversation = to_conversation(body)
    tools = tool_use(conversation, template.notation)
    conversation = template.settle(conversation, tools, model.served.thinking_budget)
    ids, is_reasoning, borders = await model.tokenizer.encode_chat(conversation, tools)
    prompt = fit_prompt(
        ids,
        model.served.context_length,
        requested=body.requested_tokens,
        borders=borders,
        param="messages",
    )
    samplings = samplings_of(
        body,
        model,
        num_candidates=body.num_choices,
        grammar=await answer_grammar(
            conversation.constraint,
            tools,
            Writing(
                notation=template.notation,
                tokens=model.tokenizer.marker_tokens,
                is_reasoning=is_reasoning,
                may_think=not is_reasoning and template.decides_to_think,
            ),
            closed=closed,
        ),
        grammar_after=model.thinking.ends if is_reasoning and model.thinking else (),
        thinking=thinking_limit(
            model,
            conversation.thinking_budget,
            tools=tools,
            is_open=is_reasoning,
        ),
    )
    return GenerationRequest(
        model=model,
        prompts=[prompt],
        samplings=samplings,
        num_choices=body.num_choices,
        stop_ids=stop_ids_of(body, model),
        stop_strings=body.stops,
        new_parser=functools.partial(
            OutputParser,
            template.notation,
            tools=tools,
            is_thinking=is_reasoning,
            is_expected_to_think=not is_reasoning and template.expects_thoughts(conversation),
        ),
        has_logprobs=body.num_logprobs is not None,
    )
