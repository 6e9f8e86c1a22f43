"""The figures of the known models. Their tokens are counted over unloads and loads."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable

import msgspec

from mlxnode.engine.residency.known import KnownModel, LoadedRunner, WeightsKey
from mlxnode.engine.residency.memory import ModelMemory
from mlxnode.figures import ModelFigures, RunnerFigures

# What is counted since the start. The rest of the figures is about now.
_COUNTED = (
    "prompt_tokens",
    "cached_tokens",
    "generated_tokens",
    "steps",
    "step_rows",
    "drafted_tokens",
    "accepted_tokens",
)


class TokensOfModels:
    """What runners that are gone have done, by their weights: a count never goes down."""

    def __init__(self) -> None:
        self._done: defaultdict[WeightsKey, Counter[str]] = defaultdict(Counter)

    def keep(self, loaded: LoadedRunner) -> None:
        """Add what ``loaded`` has done; it leaves."""
        self._done[loaded.key] = self._all_of(loaded.key, loaded.runner.figures())

    def _all_of(self, key: WeightsKey, work: RunnerFigures) -> Counter[str]:
        done = self._done[key]
        return Counter({name: done[name] + getattr(work, name) for name in _COUNTED})

    def figures(self, models: Iterable[KnownModel], memory: ModelMemory) -> list[ModelFigures]:
        """The figures of ``models``, some of which are in ``memory``."""
        by_weights: defaultdict[WeightsKey, list[KnownModel]] = defaultdict(list)
        for model in models:
            by_weights[model.key].append(model)
        works = {key: self._work(memory.find(key), same) for key, same in by_weights.items()}
        own = memory.own_bytes()
        return [
            _figures_of(
                model,
                works[model.key],
                0 if model.loaded is None else own.get(model.loaded, model.loaded.weight_bytes),
                by_weights[model.key][0],
            )
            for model in models
        ]

    def _work(self, loaded: LoadedRunner | None, same: list[KnownModel]) -> RunnerFigures:
        """The work of models with the same weights, which may be ``loaded``."""
        work = RunnerFigures() if loaded is None else loaded.runner.figures()
        waiting = sum(len(model.waiting) for model in same)
        return msgspec.structs.replace(
            work,
            num_waiting=work.num_waiting + waiting,
            **self._all_of(same[0].key, work),
        )


def _figures_of(
    model: KnownModel, work: RunnerFigures, weight_bytes: int, first: KnownModel
) -> ModelFigures:
    return ModelFigures(
        id=model.id,
        weight_bytes=weight_bytes,
        work=work,
        state=model.state,
        is_pinned=model.is_pinned,
        num_loads=model.num_loads,
        idle_seconds=model.idle_seconds(time.monotonic()),
        same_as=None if model is first else first.id,
    )
