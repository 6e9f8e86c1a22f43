"""The endpoints that generate text: a request followed from its body to its answer."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from mlxnode.messages import Sampling
from mlxnode.server.answer.choice import Choice
from mlxnode.server.answer.generation import Generation
from mlxnode.server.answer.sse import stream_generation
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.answers import ChatChunk, ChatCompletion
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.chat.writer import ChatWriter
from mlxnode.server.formats.completions.answers import TextCompletion
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.formats.completions.writer import CompletionWriter
from mlxnode.server.formats.generation import ENDINGS, GenerationBody
from mlxnode.server.formats.writer import AnswerWriter
from mlxnode.server.http.body import json_response, read_body
from mlxnode.server.http.context import context_of, registry_of
from mlxnode.server.http.validation import check_token_ids
from mlxnode.server.notation.output_parser import OutputParser
from mlxnode.server.prompt.constraints import form_of, grammar_of
from mlxnode.server.prompt.conversation import compose
from mlxnode.server.prompt.templates import ChatTemplate
from mlxnode.server.prompt.token_text import TokenText
from mlxnode.server.prompt.tools import ToolUse
from mlxnode.server.registry import TextModel

blueprint = Blueprint("text")

SEED_STRIDE = 0x9E3779B97F4A7C15  # far apart, so that neighbours' seeds do not meet
_DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's, of /v1/completions only


@dataclass(frozen=True)
class Plan:
    """What is to be generated for a request, and how it is told."""

    prompts: list[list[int]]
    max_tokens: list[int]  # for each prompt
    writer: AnswerWriter
    num_candidates: int  # for each prompt
    grammar: str | None = None
    grammar_after: list[int] = field(default_factory=list)  # tokens; empty for at once
    make_reader: Callable[[], OutputParser | None] = lambda: None  # one for each candidate


@blueprint.post(
    "/v1/chat/completions",
    ctx_models=("chat",),
    ctx_body=ChatBody,
    ctx_answer=ChatCompletion,
    ctx_event=ChatChunk,
)
async def chat_completions(request: Request) -> HTTPResponse | None:
    """Answer a conversation, whole or as a stream."""
    context = context_of(request)
    body = read_body(request, ChatBody)
    model = registry_of(request).find_chat(body.model)
    context.engine.check_connected()
    template = model.tokenizer.chat_template
    tools, form = ToolUse.of(body, template), form_of(body)
    has_form = form is not None or (tools is not None and tools.must_call)
    conversation = compose(body, template, tools, has_form=has_form)
    prompt = await model.tokenizer.encode_chat(conversation)
    max_tokens = _fit(model, prompt.ids, body.requested_tokens, None, "messages")
    plan = Plan(
        [prompt.ids],
        [max_tokens],
        ChatWriter(
            model.served,
            include_usage=body.include_usage,
            token_bytes=_token_text(body, model),
            num_choices=body.num_choices,
            has_service_tier=body.service_tier is not None,
        ),
        body.num_choices,
        await grammar_of(form, tools),
        template.think_end_ids if prompt.is_reasoning else [],
        functools.partial(_chat_reader, template, tools, prompt.is_reasoning),
    )
    return await _generate(request, body, model, plan)


def _chat_reader(
    template: ChatTemplate, tools: ToolUse | None, is_reasoning: bool
) -> OutputParser | None:
    """What tells reasoning and calls from the content, None where there is only that."""
    if tools is not None:
        return OutputParser(
            thinking=template.thinking,
            is_thinking=is_reasoning,
            syntax=tools.syntax,
            tools=tools.definitions,
            is_parallel=tools.is_parallel,
        )
    if template.thinking is not None:
        return OutputParser(thinking=template.thinking, is_thinking=is_reasoning)
    return None


@blueprint.post(
    "/v1/completions",
    ctx_models=("chat", "completion"),
    ctx_body=CompletionBody,
    ctx_answer=TextCompletion,
    ctx_event=TextCompletion,
)
async def completions(request: Request) -> HTTPResponse | None:
    """Continue one or more prompts, whole or as a stream."""
    context = context_of(request)
    body = read_body(request, CompletionBody)
    model = registry_of(request).find_text(body.model)
    context.engine.check_connected()
    prompts = await _encode_prompts(model, body)
    # Of nothing at all the engine generates one token, which is not told.
    asked = 1 if body.requested_tokens == 0 else body.requested_tokens
    plan = Plan(
        prompts,
        [
            _fit(model, prompt, asked, _DEFAULT_COMPLETION_TOKENS, "prompt")
            for prompt in prompts
        ],
        CompletionWriter(
            model.served,
            include_usage=body.include_usage,
            token_bytes=_token_text(body, model),
        ),
        body.best_of or body.num_choices,
        await grammar_of(form_of(body)),
    )
    return await _generate(request, body, model, plan)


def _token_text(body: GenerationBody, model: TextModel) -> TokenText | None:
    """What names the tokens of the answer's log-probabilities, if they were asked for."""
    return None if body.num_logprobs is None else model.tokenizer.token_text


async def _generate(
    request: Request, body: GenerationBody, model: TextModel, plan: Plan
) -> HTTPResponse | None:
    """Reserve, generate and answer.

    Leaving early in any way aborts what still runs and settles the reservation.
    """
    context = context_of(request)
    _check_number(len(plan.prompts) * plan.num_candidates, context.config.engine.max_queue_size)
    samplings = _samplings(body, model, plan)
    most = sum(map(len, plan.prompts)) + plan.num_candidates * sum(plan.max_tokens)
    async with context.rate_limiter.reserve(
        request.ctx.key_id, model.served.id, most
    ) as reservation:
        request.ctx.headers |= reservation.headers
        with context.engine.generate(
            model.served.id, plan.prompts, plan.max_tokens, model.stop_ids(body), samplings
        ) as call:
            choices = [
                Choice(
                    model,
                    prompt,
                    body.stops,
                    reader=plan.make_reader(),
                    scores=body.num_logprobs is not None,
                    echo=body.echoes,
                    is_empty=body.requested_tokens == 0,
                )
                for prompt in plan.prompts
                for _ in samplings
            ]
            generation = Generation(call, choices, plan.prompts)
            try:
                if body.stream:
                    return await stream_generation(request, generation, plan.writer)
                deltas = await generation.finish()
                if plan.num_candidates > body.num_choices:
                    deltas = generation.best(deltas, plan.num_candidates, body.num_choices)
                return json_response(plan.writer.response(deltas, generation.usage))
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


def _samplings(body: GenerationBody, model: TextModel, plan: Plan) -> list[Sampling]:
    """The request's sampling for each candidate of a prompt, which draw apart.

    Raises:
        InvalidRequest: the answer's form is combined with what contradicts it.
    """
    sampling = msgspec.structs.replace(
        model.sampling(body),
        grammar=plan.grammar,
        grammar_after=plan.grammar_after,
        scores_prompt=body.echoes and body.num_logprobs is not None,
    )
    if plan.num_candidates > body.num_choices and sampling.top_logprobs is None:
        sampling = msgspec.structs.replace(sampling, top_logprobs=0)  # to tell the best
    if plan.grammar is not None:
        for name in ENDINGS:
            if getattr(body, name):
                raise InvalidRequest(
                    f"'{name}' cannot be combined with an answer of a given form, which says "
                    "itself where it ends.",
                    param=name,
                    code="invalid_parameter_combination",
                )
    if sampling.seed is None:
        return [sampling] * plan.num_candidates
    seeds = [(sampling.seed + i * SEED_STRIDE) % 2**64 for i in range(plan.num_candidates)]
    return [msgspec.structs.replace(sampling, seed=seed) for seed in seeds]


async def _encode_prompts(model: TextModel, body: CompletionBody) -> list[list[int]]:
    """Each prompt of a completion request as token ids."""
    prompt = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if body.suffix:
        prompt = _with_suffix(model, prompt, body.suffix)
    if isinstance(prompt[0], str):
        prompts = await model.tokenizer.encode(prompt)
    else:
        prompts = [prompt] if isinstance(prompt[0], int) else prompt
        check_token_ids(prompts, model.tokenizer.vocabulary_size, "prompt")
    if not all(prompts):
        raise InvalidRequest("A prompt must not be empty", param="prompt", code="empty_prompt")
    return prompts


def _with_suffix(model: TextModel, prompts: list[Any], suffix: str) -> list[str]:
    """Each prompt with the gap that is to be filled, in the model's own notation."""
    markers = model.tokenizer.fill_in_the_middle
    if markers is None:
        raise InvalidRequest(
            "Unsupported parameter: 'suffix' needs a model with fill-in-the-middle tokens; "
            f"'{model.served.id}' has none.",
            param="suffix",
            code="unsupported_parameter",
        )
    if not isinstance(prompts[0], str):
        raise InvalidRequest(
            "A 'suffix' needs prompts that are texts, not token ids",
            param="suffix",
            code="invalid_parameter_combination",
        )
    before, between, after = markers
    return [f"{before}{prompt}{between}{suffix}{after}" for prompt in prompts]


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
