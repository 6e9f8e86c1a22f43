"""``POST /v1/completions``."""

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.answer import affinity
from mlxnode.server.answer.request import GenerationRequest
from mlxnode.server.answer.sampling import samplings_of, stop_ids_of
from mlxnode.server.constraints.tool_grammar import answer_grammar
from mlxnode.server.formats.completions.answers import TextCompletion
from mlxnode.server.formats.completions.request import encode_prompts, first_prompt
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.formats.completions.writer import CompletionWriter
from mlxnode.server.formats.constraint import single_constraint
from mlxnode.server.formats.structured import structured_constraints
from mlxnode.server.http.body import read_body
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.prompt.context_length import fit_prompt
from mlxnode.server.registry.opened import TextModel
from mlxnode.server.routes.generate import Prepared, generate

blueprint = Blueprint("completions")

_DEFAULT_TOKENS = 16  # OpenAI's default, for this endpoint only


@blueprint.post(
    "/v1/completions",
    ctx_models=("chat", "completion"),
    ctx_body=CompletionBody,
    ctx_answer=TextCompletion,
    ctx_event=TextCompletion,
)
async def completions(request: Request) -> HTTPResponse | None:
    """Continue one or more prompts, whole or as a stream."""
    body = await read_body(request, CompletionBody)
    return await generate(
        request, _prepare(request, body), CompletionWriter, is_stream=bool(body.stream)
    )


async def _prepare(request: Request, body: CompletionBody) -> Prepared:
    model = await registry_of(request).find_text(body.model)
    context_of(request).engine.check_connected()
    closed = context_of(request).config.server.closed_objects
    generation_request = await _to_generation_request(body, model, closed=closed)
    writer = CompletionWriter(
        model.served,
        include_usage=body.include_usage,
        token_bytes=None if body.num_logprobs is None else model.tokenizer.token_bytes,
    )
    own = affinity.of_prompt(request.ctx.key_id, model, first_prompt(body))
    return Prepared(generation_request, writer, own)


async def _to_generation_request(
    body: CompletionBody, model: TextModel, *, closed: bool
) -> GenerationRequest:
    discards_output = body.requested_tokens == 0
    # The engine generates at least one token; the answer to a request of none discards it.
    requested = 1 if discards_output else body.requested_tokens
    prompts = [
        fit_prompt(
            ids,
            model.served.context_length,
            requested=requested,
            default=None if body.is_unlimited else _DEFAULT_TOKENS,
            param="prompt",
        )
        for ids in await encode_prompts(body, model)
    ]
    constraint = single_constraint(structured_constraints(body))
    grammar = await answer_grammar(constraint, None, closed=closed)
    settings = body.settings
    return GenerationRequest(
        model=model,
        prompts=prompts,
        samplings=samplings_of(settings, model, grammar=grammar),
        num_choices=settings.num_choices,
        stop_ids=stop_ids_of(settings, model),
        stop_strings=settings.stop_strings,
        has_logprobs=settings.num_logprobs is not None,
        echoes_prompt=settings.echoes_prompt,
        discards_output=discards_output,
    )
