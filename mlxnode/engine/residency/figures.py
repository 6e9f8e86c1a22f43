"""The figures of the known models. Their tokens are counted over unloads and loads."""

import time
from collections import Counter, defaultdict

import msgspec

from mlxnode.engine.residency.known import KnownModel, LoadedRunner, WeightsKey
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

    def figures_of(
        self, model: KnownModel, loaded: LoadedRunner | None, weight_bytes: int
    ) -> ModelFigures:
        """The figures of ``model``; ``loaded`` is the runner with its weights, if any."""
        work = RunnerFigures() if loaded is None else loaded.runner.figures()
        return ModelFigures(
            id=model.id,
            weight_bytes=weight_bytes,
            work=msgspec.structs.replace(
                work,
                num_waiting=work.num_waiting + len(model.waiting),
                **self._all_of(model.key, work),
            ),
            state=model.state,
            is_pinned=model.is_pinned,
            num_loads=model.num_loads,
            idle_seconds=model.idle_seconds(time.monotonic()),
        )
