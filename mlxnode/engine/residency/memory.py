"""The memory of the loaded runners, and whether one more model fits beside them.

``engine/memory/plan.py`` has the formula. Requests that run keep the KV cache that they were
promised when they came: the memory of one more model is never taken from them.
"""

import logging
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.fit.served import needs_of_served_in_pieces
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.loader.bases import BaseWeights
from mlxnode.engine.memory.plan import describe, free_after, kv_cache_bytes
from mlxnode.engine.ranks.leader import Leader
from mlxnode.engine.residency.known import LoadedRunner, WeightsKey
from mlxnode.errors import ModelError, reason_of
from mlxnode.models.fit import SMALL_CONTEXT, Activations, MemoryNeeds, Verdict, judge
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.engine")


@dataclass(frozen=True)
class Requirement:
    """What a model needs; ``needs`` is None if that is not known, because of ``unknown``."""

    model: ServedModel
    config: EngineConfig
    needs: MemoryNeeds | None
    unknown: str = ""

    @classmethod
    def of(
        cls, model: ServedModel, config: EngineConfig, measured: MemoryNeeds | None = None
    ) -> "Generator[None, None, Requirement]":
        """As ``measured`` before, else from the files; the weights are not read. In pieces.

        Raises:
            ModelError: the model cannot be served, whatever the memory.
        """
        if measured is not None:
            return cls(model, config, measured)
        try:
            needs = yield from needs_of_served_in_pieces(model, config)
            return cls(model, config, needs)
        except ModelError:
            raise
        except Exception as error:  # of any type: a graph that cannot be traced, say
            return cls(model, config, None, reason_of(error))

    def measured(self, activations: int) -> MemoryNeeds | None:
        """The needs with the passes of the loaded model, which were estimated before."""
        if self.needs is None:
            return None
        at = Activations(self.model.context_length, activations, activations)
        return replace(self.needs, activations=(at, at), load=0)

    def verdict(self, free: int, present: int = 0) -> Verdict | None:
        """Whether it fits into ``free`` bytes, if ``present`` bytes of weights are there."""
        if self.needs is None:
            return None
        needs = replace(self.needs, weights=max(self.needs.weights - present, 0))
        return judge(
            needs,
            free,
            context_length=self.model.context_length,
            max_batch_size=self.config.max_batch_size if self.model.generates_text else 1,
            is_configured=self.model.has_configured_context,
        )

    def fits(self, free: int, present: int = 0) -> bool:
        verdict = self.verdict(free, present)
        return self.model.size_bytes <= free if verdict is None else verdict.fits

    def planned(self, free: int, present: int = 0) -> int:
        """The bytes with which it can serve one request."""
        if (verdict := self.verdict(free, present)) is None:
            return self.model.size_bytes
        context = self.model.context_length
        wanted = context if verdict.is_configured else min(SMALL_CONTEXT, context)
        return verdict.needs.planned(1, wanted, free)

    def text(self, free: int, present: int = 0) -> str:
        """The verdict in a line."""
        if (verdict := self.verdict(free, present)) is not None:
            return verdict.text
        if self.fits(free, present):
            return f"it is not known whether it fits: {self.unknown}"
        return (
            f"does not fit: its weights alone need {self.model.size_bytes / 1e9:.2f} GB, "
            f"{free / 1e9:.2f} GB are free"
        )


class ModelMemory:
    """All loaded runners, and the budget that gives their KV caches what is left."""

    def __init__(self, config: EngineConfig, ranks: Leader | None = None):
        """``ranks``: the other machines of this engine, if there are some."""
        self._config = config
        self.ranks = ranks
        self.budget = MemoryBudget()
        self.bases = BaseWeights()
        self.loaded: list[LoadedRunner] = []

    @property
    def weights(self) -> int:
        """The bytes of all weights. Arrays of several runners count once."""
        return _distinct(self.loaded)

    def own_bytes(self) -> dict[LoadedRunner, int]:
        """The bytes of weights of each runner that no runner before it has."""
        own: dict[LoadedRunner, int] = {}
        counted: set[int] = set()
        for loaded in self.loaded:
            new = loaded.weights.keys() - counted
            own[loaded] = sum(loaded.weights[array] for array in new)
            counted |= new
        return own

    @property
    def has_foreground(self) -> bool:
        """True if requests in the foreground are computed now."""
        return any(loaded.runner.foreground.has_work for loaded in self.loaded)

    def find(self, key: WeightsKey) -> LoadedRunner | None:
        """The runner with these weights, if it is loaded."""
        return next((loaded for loaded in self.loaded if loaded.key == key), None)

    def free(self, kept: Sequence[LoadedRunner], *, drained: bool = False) -> int:
        """The bytes for one more model beside ``kept``; ``drained``: once they are idle."""
        taken = sum(loaded.activations for loaded in kept)
        if not drained:
            taken += _promised(kept)
        return max(free_after(self._config, _distinct(kept)) - taken, 0)

    def present(self, model: ServedModel, kept: Sequence[LoadedRunner]) -> int:
        """The bytes of the weights of ``model`` that ``kept`` hold: adapters share a base."""
        if not any(each.key.base == WeightsKey.of(model).base for each in kept):
            return 0
        return self.bases.loaded_bytes(model)

    def reserve(self, size: int) -> None:
        """Keep ``size`` bytes for a model that is being loaded."""
        self._divide(available=0, extra=size)

    def share(self) -> None:
        """Give the KV caches what the weights and the passes of the runners leave."""
        weights = self.weights
        each = free_after(self._config, weights) // max(len(self.loaded), 1)
        activations = self._divide(available=each, extra=0)
        mx.reset_peak_memory()
        log.info("%s", describe(self._config, weights, activations, self.budget.total))

    def _divide(self, available: int, extra: int) -> int:
        """Set the budget; returns the bytes for passes, of ``available`` ones each."""
        activations = sum(
            loaded.runner.reserve_activations(available, loaded.context_length)
            for loaded in self.loaded
        )
        total = kv_cache_bytes(self._config, self.weights, activations + extra)
        self.budget.resize(max(total, _promised(self.loaded)))
        return activations


def _distinct(runners: Iterable[LoadedRunner]) -> int:
    sizes: dict[int, int] = {}
    for loaded in runners:
        sizes |= loaded.weights
    return sum(sizes.values())


def _promised(runners: Iterable[LoadedRunner]) -> int:
    """The KV cache that the requests of now may come to need."""
    return sum(loaded.runner.kv_needed for loaded in runners)
