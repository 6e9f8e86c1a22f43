"""The sampling parameters of a request: the body's over the model's defaults."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from mlxnode.messages import Sampling, ThinkingLimit
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.generation import ENDINGS, GenerationBody
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.registry import TextModel

SEED_STRIDE = 0x9E3779B97F4A7C15  # so large that the seeds of neighbours do not meet

Value = TypeVar("Value")


def samplings_of(
    body: GenerationBody,
    model: TextModel,
    *,
    num_candidates: int = 1,
    grammar: str | None = None,
    grammar_after: Sequence[list[list[int]]] = (),
    thinking: ThinkingLimit | None = None,
) -> list[Sampling]:
    """The sampling parameters of each candidate of a prompt; they differ in their seeds.

    The parameters of ``body`` are completed by the model's defaults. ``grammar`` applies
    after one of the ``grammar_after``, which end the reasoning. ``thinking`` is its limit.

    Raises:
        InvalidRequest: a parameter is not valid for this model, or contradicts the grammar.
    """
    defaults = model.defaults
    top_logprobs = body.num_logprobs
    if num_candidates > body.num_choices and top_logprobs is None:
        top_logprobs = 0  # the best candidates are found by their log-probabilities
    sampling = Sampling(
        temperature=_or_default(body.temperature, defaults.temperature),
        top_p=_or_default(body.top_p, defaults.top_p),
        top_k=defaults.top_k if body.top_k is None else max(body.top_k, 0),
        min_p=_or_default(body.min_p, defaults.min_p),
        # The engine's seeds are unsigned; a negative seed is as good as any other.
        seed=None if body.seed is None else body.seed % 2**64,
        grammar=grammar,
        grammar_after=[*grammar_after],
        logit_bias=_logit_bias(body, model.tokenizer.vocabulary_size),
        repetition_penalty=_or_default(body.repetition_penalty, defaults.repetition_penalty),
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        min_tokens=body.min_tokens or 0,
        top_logprobs=top_logprobs,
        scores_prompt=body.echoes and body.num_logprobs is not None,
        thinking=thinking,
    )
    if grammar is not None:
        _check_endings(body)
    if sampling.seed is None:
        return [sampling] * num_candidates
    seeds = [(sampling.seed + i * SEED_STRIDE) % 2**64 for i in range(num_candidates)]
    return [msgspec.structs.replace(sampling, seed=seed) for seed in seeds]


def thinking_limit(
    model: TextModel, budget: int | None, *, tools: ToolUse | None, is_open: bool
) -> ThinkingLimit | None:
    """The end of the reasoning after ``budget`` tokens.

    Then the model answers; it may also call one of ``tools``. ``is_open``: the prompt ends
    within the reasoning. None: there is no limit, or the model does not reason.
    """
    tokens = model.thinking
    if budget is None or tokens is None:
        return None
    end = tokens.answer if tools is None else tokens.end
    return ThinkingLimit(
        max_tokens=budget,
        is_open=is_open,
        starts=tokens.starts,
        ends=tokens.ends,
        # Without a thought there is nothing to conclude.
        closing=[*tokens.sentence, *end] if budget else end,
        reclosing=tokens.end if tools is not None and tools.must_call else tokens.answer,
    )


def stop_ids_of(body: GenerationBody, model: TextModel) -> list[int]:
    """The tokens that end a sequence."""
    own = [] if body.ignore_eos else model.tokenizer.stop_ids
    return [*own, *(body.stop_token_ids or ())]


def _or_default(value: Value | None, default: Value) -> Value:
    return default if value is None else value


def _logit_bias(body: GenerationBody, vocabulary_size: int) -> dict[int, float]:
    bias = {int(token): value for token, value in (body.logit_bias or {}).items()}
    if bias and max(bias) >= vocabulary_size:
        raise InvalidRequest(
            f"Invalid 'logit_bias': {max(bias)} is no token id of this model, which has "
            f"{vocabulary_size}.",
            param="logit_bias",
            code="invalid_token_id",
        )
    return bias


def _check_endings(body: GenerationBody) -> None:
    """Raises InvalidRequest for a parameter that contradicts the end that a grammar sets."""
    for name in ENDINGS:
        if getattr(body, name):
            raise InvalidRequest(
                f"'{name}' cannot be combined with an answer of a given form, which says "
                "itself where it ends.",
                param=name,
                code="invalid_parameter_combination",
            )
