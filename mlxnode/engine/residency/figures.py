"""The figures of the known models. Their tokens are counted over unloads and loads."""

import time
from collections import defaultdict
from dataclasses import dataclass

import msgspec

from mlxnode.engine.residency.known import KnownModel, LoadedRunner, WeightsKey
from mlxnode.figures import ModelFigures, RunnerFigures


@dataclass
class _Tokens:
    prompt: int = 0
    cached: int = 0
    generated: int = 0


class TokensOfModels:
    """What runners that are gone have done, by their weights: a count never goes down."""

    def __init__(self) -> None:
        self._done: defaultdict[WeightsKey, _Tokens] = defaultdict(_Tokens)

    def keep(self, loaded: LoadedRunner) -> None:
        """Add what ``loaded`` has done; it leaves."""
        work, done = loaded.runner.figures(), self._done[loaded.key]
        done.prompt += work.prompt_tokens
        done.cached += work.cached_tokens
        done.generated += work.generated_tokens

    def figures_of(
        self, model: KnownModel, loaded: LoadedRunner | None, weight_bytes: int
    ) -> ModelFigures:
        """The figures of ``model``; ``loaded`` is the runner with its weights, if any."""
        done = self._done[model.key]
        work = RunnerFigures() if loaded is None else loaded.runner.figures()
        return ModelFigures(
            id=model.id,
            weight_bytes=weight_bytes,
            work=msgspec.structs.replace(
                work,
                num_waiting=work.num_waiting + len(model.waiting),
                prompt_tokens=work.prompt_tokens + done.prompt,
                cached_tokens=work.cached_tokens + done.cached,
                generated_tokens=work.generated_tokens + done.generated,
            ),
            state=model.state,
            is_pinned=model.is_pinned,
            num_loads=model.num_loads,
            idle_seconds=model.idle_seconds(time.monotonic()),
        )
