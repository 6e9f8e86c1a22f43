"""The endpoints that generate text: a request followed from its body to its answer."""

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.messages import Sampling
from mlxnode.server.body import check_token_ids, json_response, read_body
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats import ChatFormat, Format, TextFormat
from mlxnode.server.generation import Choice, Generation
from mlxnode.server.grammars import grammar_of
from mlxnode.server.node import node_of, registry_of
from mlxnode.server.registry import TextModel
from mlxnode.server.responses import ChatChunk, ChatCompletion, TextCompletion
from mlxnode.server.schemas import ENDINGS, ChatBody, CompletionBody, GenerationBody
from mlxnode.server.stream import stream_generation
from mlxnode.server.token_text import TokenText

blueprint = Blueprint("text")

SEED_STRIDE = 0x9E3779B97F4A7C15  # far apart, so that neighbours' seeds do not meet
_DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's, of /v1/completions only


@blueprint.post(
    "/v1/chat/completions",
    ctx_models=("chat",),
    ctx_body=ChatBody,
    ctx_answer=ChatCompletion,
    ctx_event=ChatChunk,
)
async def chat_completions(request: Request) -> HTTPResponse | None:
    """Answer a conversation, whole or as a stream."""
    node = node_of(request)
    body = read_body(request, ChatBody)
    model = registry_of(request).find_chat(body.model)
    node.engine.check_connected()
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidRequest(
            "Set max_completion_tokens or max_tokens, not both",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    prompt = await model.tokenizer.encode_chat([m.to_template() for m in body.messages])
    asked = body.max_completion_tokens or body.max_tokens
    max_tokens = [_fit(model, prompt, asked, None, "messages")]
    form = ChatFormat(
        model.served,
        include_usage=body.include_usage,
        logprobs_of=_token_text(body, model),
        num_choices=body.num_choices,
    )
    return await _generate(request, body, model, [prompt], max_tokens, form)


@blueprint.post(
    "/v1/completions",
    ctx_models=("chat", "completion"),
    ctx_body=CompletionBody,
    ctx_answer=TextCompletion,
    ctx_event=TextCompletion,
)
async def completions(request: Request) -> HTTPResponse | None:
    """Continue one or more prompts, whole or as a stream."""
    node = node_of(request)
    body = read_body(request, CompletionBody)
    model = registry_of(request).find_text(body.model)
    node.engine.check_connected()
    prompts = await _encode_prompts(model, body.prompt)
    # Of nothing at all the engine generates one token, which is not told.
    asked = 1 if body.max_tokens == 0 else body.max_tokens
    max_tokens = [
        _fit(model, prompt, asked, _DEFAULT_COMPLETION_TOKENS, "prompt") for prompt in prompts
    ]
    form = TextFormat(
        model.served,
        include_usage=body.include_usage,
        logprobs_of=_token_text(body, model),
    )
    return await _generate(
        request, body, model, prompts, max_tokens, form, best_of=body.best_of
    )


def _token_text(body: GenerationBody, model: TextModel) -> TokenText | None:
    """What names the tokens of the answer's log-probabilities, if they were asked for."""
    return None if body.num_logprobs is None else model.tokenizer.token_text


async def _generate(
    request: Request,
    body: GenerationBody,
    model: TextModel,
    prompts: list[list[int]],
    max_tokens: list[int],
    form: Format,
    best_of: int | None = None,
) -> HTTPResponse | None:
    """Reserve, generate and answer; ``max_tokens`` has one bound for each of ``prompts``.

    Leaving early in any way aborts what still runs and settles the reservation.
    """
    node = node_of(request)
    num_candidates = best_of or body.num_choices
    _check_number(len(prompts) * num_candidates, node.config.engine.max_queue_size)
    samplings = await _samplings(body, model, num_candidates)
    num_prompt_tokens = sum(map(len, prompts))
    most = num_prompt_tokens + num_candidates * sum(max_tokens)
    async with node.limits.reserve(request.ctx.key_id, model.served.id, most) as reservation:
        request.ctx.headers |= reservation.headers
        with node.engine.generate(
            model.served.id, prompts, max_tokens, model.stop_ids(body), samplings
        ) as call:
            scores = body.num_logprobs is not None
            choices = [
                Choice(
                    model,
                    prompt,
                    body.stops,
                    scores=scores,
                    echo=body.echoes,
                    is_empty=body.max_tokens == 0,
                )
                for prompt in prompts
                for _ in samplings
            ]
            generation = Generation(call, choices, num_prompt_tokens)
            try:
                if body.stream:
                    return await stream_generation(request, generation, form)
                deltas = await generation.finish()
                if num_candidates > body.num_choices:
                    deltas = generation.best(deltas, num_candidates, body.num_choices)
                return json_response(form.whole(deltas, generation.usage))
            finally:
                reservation.tokens_used = generation.tokens_used


def _check_number(count: int, limit: int) -> None:
    """Raises InvalidRequest for more choices than can ever wait in the queue together."""
    if count > limit:
        raise InvalidRequest(
            f"This request asks for {count} answers at once (prompts times n or best_of); at "
            f"most {limit} are accepted.",
            param="prompt",
            code="too_many_choices",
        )


async def _samplings(body: GenerationBody, model: TextModel, count: int) -> list[Sampling]:
    """The request's sampling for each of ``count`` choices, which draw apart.

    Raises:
        InvalidRequest: the grammar is bad, or combined with what contradicts it.
    """
    grammar = await grammar_of(body)
    scores_prompt = body.echoes and body.num_logprobs is not None
    sampling = msgspec.structs.replace(
        model.sampling(body), grammar=grammar, scores_prompt=scores_prompt
    )
    if grammar is not None:
        for name in ENDINGS:
            if getattr(body, name):
                raise InvalidRequest(
                    f"'{name}' cannot be combined with an answer of a given form, which says "
                    "itself where it ends.",
                    param=name,
                    code="invalid_parameter_combination",
                )
    if sampling.seed is None:
        return [sampling] * count
    seeds = [(sampling.seed + i * SEED_STRIDE) % 2**64 for i in range(count)]
    return [msgspec.structs.replace(sampling, seed=seed) for seed in seeds]


async def _encode_prompts(
    model: TextModel, prompt: str | list[str] | list[int] | list[list[int]]
) -> list[list[int]]:
    """Each prompt of a completion request as token ids."""
    if isinstance(prompt, str):
        prompts = await model.tokenizer.encode([prompt])
    elif isinstance(prompt[0], str):
        prompts = await model.tokenizer.encode(prompt)
    else:
        prompts = [prompt] if isinstance(prompt[0], int) else prompt
        check_token_ids(prompts, model.tokenizer.vocabulary_size, "prompt")
    if not all(prompts):
        raise InvalidRequest("A prompt must not be empty", param="prompt", code="empty_prompt")
    return prompts


def _fit(
    model: TextModel, prompt: list[int], asked: int | None, default: int | None, param: str
) -> int:
    """How many tokens may be generated after ``prompt``.

    Raises:
        InvalidRequest: the prompt, or the prompt with what was asked for, is too long.
    """
    limit = model.served.context_length
    room = limit - len(prompt)
    if room >= (asked or 1):
        return asked or min(room, default or room)
    wanted = f"{len(prompt)} in the {param}"
    if asked is not None:
        wanted += f", {asked} in the completion"
    raise InvalidRequest(
        f"This model's maximum context length is {limit} tokens. However, you requested "
        f"{len(prompt) + (asked or 1)} tokens ({wanted}). Please reduce the length of the "
        f"{param}{' or completion' if asked else ''}.",
        param=param,
        code="context_length_exceeded",
    )
