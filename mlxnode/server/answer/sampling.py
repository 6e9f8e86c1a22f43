"""The sampling parameters of a request: its own over the model's defaults."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from mlxnode.messages.data import Sampling, ThinkingLimit
from mlxnode.server.answer.settings import Settings
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.registry.opened import TextModel

SEED_STRIDE = 0x9E3779B97F4A7C15  # so large that the seeds of neighbours do not meet
# A grammar sets the end of its answer itself, so that these parameters contradict a grammar.
ENDINGS = ("ignore_eos", "min_tokens", "stop_token_ids")

Value = TypeVar("Value")


def samplings_of(
    settings: Settings,
    model: TextModel,
    *,
    grammar: str | None = None,
    grammar_after: Sequence[list[list[int]]] = (),
    thinking: ThinkingLimit | None = None,
) -> list[Sampling]:
    """The sampling parameters of each candidate of a prompt; they differ in their seeds.

    ``settings`` are completed by the model's defaults. ``grammar`` applies after one of the
    ``grammar_after``, which end the reasoning. ``thinking`` is its limit.

    Raises:
        InvalidRequest: a parameter is not valid for this model, or contradicts the grammar.
    """
    defaults = model.defaults
    top_logprobs = settings.num_logprobs
    if settings.best_of > settings.num_choices and top_logprobs is None:
        top_logprobs = 0  # the best candidates are found by their log-probabilities
    sampling = Sampling(
        temperature=_or_default(settings.temperature, defaults.temperature),
        top_p=_or_default(settings.top_p, defaults.top_p),
        top_k=defaults.top_k if settings.top_k is None else max(settings.top_k, 0),
        min_p=_or_default(settings.min_p, defaults.min_p),
        # The engine's seeds are unsigned; a negative seed is as good as any other.
        seed=None if settings.seed is None else settings.seed % 2**64,
        grammar=grammar,
        grammar_after=[*grammar_after],
        logit_bias=_logit_bias(settings, model.tokenizer.vocabulary_size),
        repetition_penalty=_or_default(
            settings.repetition_penalty, defaults.repetition_penalty
        ),
        frequency_penalty=settings.frequency_penalty,
        presence_penalty=settings.presence_penalty,
        min_tokens=settings.min_tokens,
        top_logprobs=top_logprobs,
        scores_prompt=settings.echoes_prompt and settings.num_logprobs is not None,
        thinking=thinking,
    )
    if grammar is not None:
        _check_endings(settings)
    if sampling.seed is None:
        return [sampling] * settings.best_of
    seeds = [(sampling.seed + i * SEED_STRIDE) % 2**64 for i in range(settings.best_of)]
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


def stop_ids_of(settings: Settings, model: TextModel) -> list[int]:
    """The tokens that end a sequence."""
    own = [] if settings.ignore_eos else model.tokenizer.stop_ids
    return [*own, *settings.stop_token_ids]


def _or_default(value: Value | None, default: Value) -> Value:
    return default if value is None else value


def _logit_bias(settings: Settings, vocabulary_size: int) -> dict[int, float]:
    bias = settings.logit_bias
    if bias and max(bias) >= vocabulary_size:
        raise InvalidRequest(
            f"Invalid 'logit_bias': {max(bias)} is no token id of this model, which has "
            f"{vocabulary_size}.",
            param="logit_bias",
            code="invalid_token_id",
        )
    return bias


def _check_endings(settings: Settings) -> None:
    """Raises InvalidRequest for a parameter that contradicts the end that a grammar sets."""
    for name in ENDINGS:
        if getattr(settings, name):
            raise InvalidRequest(
                f"'{name}' cannot be combined with an answer of a given form, which says "
                "itself where it ends.",
                param=name,
                code="invalid_parameter_combination",
            )
