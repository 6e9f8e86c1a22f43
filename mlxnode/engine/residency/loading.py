"""Loads one model: makes room for it, then reads it in pieces."""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace

import mlx.core as mx

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.fit.served import check_shared
from mlxnode.engine.residency.catalog import Catalog
from mlxnode.engine.residency.known import KnownModel, LoadedRunner, WeightsKey
from mlxnode.engine.residency.memory import ModelMemory, Requirement
from mlxnode.engine.residency.pieces import NewRunner, load_in_pieces
from mlxnode.engine.residency.policy import fewest_to_unload
from mlxnode.errors import ModelError
from mlxnode.kernels.backend import Kernels
from mlxnode.models.complete import check_complete
from mlxnode.models.files import ModelFiles

log = logging.getLogger("mlxnode.engine")


class NotNow(Exception):
    """A model does not fit beside the others; alone, it would.

    Nobody waits for it, or only requests in the background do.
    """


class ModelLoading:
    """One model on its way into memory, as a generator of pieces.

    ``is_waiting`` is True while requests of other models have to end first.
    """

    def __init__(
        self,
        model: KnownModel,
        catalog: Catalog,
        memory: ModelMemory,
        config: EngineConfig,
        kernels: Kernels,
        report: Callable[[str], None],
    ):
        self.model = model
        self._catalog = catalog
        self._memory = memory
        self._config = config
        self._kernels = kernels
        self._report = report
        self.is_waiting = False
        self.is_reading = False  # room is made
        self.is_stale = True  # requests or pins have changed since the room was planned
        self._pieces = self._run()

    def advance(self) -> LoadedRunner | None:
        """Do one piece; returns the runner after the last one.

        Raises:
            ModelError: the model cannot be served. It may raise any other exception as well.
            NotNow: see there.
            BackendError: a kernel that the configuration requires does not work.
        """
        try:
            next(self._pieces)
        except StopIteration as end:
            return end.value
        return None

    def close(self) -> None:
        """Give up; those who were to make room stay."""
        self._pieces.close()
        self._make_go((), ())

    def _run(self) -> Generator[None, None, LoadedRunner]:
        served, key = self.model.served, self.model.key
        self._check_shared()
        check_complete(ModelFiles(served.folder, served.weights))
        requirement = yield from Requirement.of(served, self._config, self.model.needs)
        yield
        yield from self._make_room(requirement, key)
        self.is_reading = True
        kept = self._memory.loaded
        free, present = self._memory.free(kept), self._memory.present(self.model.served, kept)
        self._report(f"{served.id} {requirement.text(free, present)}")
        self._memory.reserve(requirement.planned(free, present))
        self._report(f"loading {served.id} ({served.size_bytes / 1e6:.0f} MB)")
        mx.clear_cache()
        memory = self._memory
        new = yield from load_in_pieces(
            served, self._config, memory.budget, memory.bases, self._kernels, memory.ranks
        )
        try:
            yield
            return (yield from self._measure(new, requirement))
        except BaseException:  # the end of this generator, too
            new.runner.close()
            raise

    def _measure(
        self, new: NewRunner, requirement: Requirement
    ) -> Generator[None, None, LoadedRunner]:
        """The loaded runner, once there is room for its passes, too."""
        key = self.model.key
        sizes = {id(array): array.nbytes for array in new.arrays}
        loaded = LoadedRunner(key, new.runner, sizes, self._longest_context(key))
        yield from new.runner.measure_passes(loaded.context_length)
        yield
        loaded.activations = new.runner.reserve_activations(0, loaded.context_length)
        if (needs := requirement.measured(loaded.activations)) is not None:
            self.model.needs = needs
            self.is_stale = True
            yield from self._make_room(replace(requirement, needs=needs), key)
        return loaded

    def _check_shared(self) -> None:
        """Models with the same weights have the same kind of KV caches."""
        served = self.model.served
        for other in self._catalog.models.values():
            if served.generates_text and other.key == self.model.key:
                check_shared(other.served, served, self._config)
                return

    def _longest_context(self, key: WeightsKey) -> int:
        models = [model.served for model in self._catalog if model.key == key]
        return max(model.context_length for model in (*models, self.model.served))

    # --- room -----------------------------------------------------------------------

    def _make_room(self, requirement: Requirement, key: WeightsKey) -> Iterator[None]:
        """Yields until ``requirement`` is met beside those who stay.

        Those who go are marked, and unloaded by the residency once their requests have ended.
        """
        while True:
            if self.is_stale:
                self.is_stale = False
                going, closed = self._plan(requirement, key)
                self._make_go(going, closed)
                if not going and not closed:
                    self.is_waiting = False
                    return
            self.is_waiting = True
            yield

    def _plan(
        self, requirement: Requirement, key: WeightsKey
    ) -> tuple[Sequence[LoadedRunner], Sequence[LoadedRunner]]:
        """Whom to unload, and who takes no new requests until it has become idle."""

        def fits_without(going: Sequence[LoadedRunner], *, drained: bool = False) -> bool:
            kept = [each for each in self._memory.loaded if each not in going]
            free = self._memory.free(kept, drained=drained)
            return requirement.fits(free, self._memory.present(self.model.served, kept))

        if fits_without(()):
            return (), ()
        loaded = self._memory.loaded
        order = sorted(
            (each for each in loaded if not each.is_pinned),
            key=lambda each: (not each.is_going, each.is_busy, each.used_at),
        )
        if not fits_without(order, drained=True):
            pinned = [each for each in loaded if each.is_pinned]
            free = self._memory.free(pinned, drained=True)
            present = self._memory.present(self.model.served, pinned)
            raise ModelError(requirement.text(free, present))
        if not self.model.may_displace:
            raise NotNow(requirement.text(self._memory.free(loaded)))
        if self.model.is_for_background:
            now = time.monotonic()
            order = [each for each in order if each.is_free_at(now)]
            if (going := fewest_to_unload(order, fits_without)) is None:
                raise NotNow(requirement.text(self._memory.free(loaded)))
            return going, ()
        idle = [each for each in order if not each.is_busy]
        if (going := fewest_to_unload(idle, fits_without)) is not None:
            return going, ()
        going = fewest_to_unload(order, lambda those: fits_without(those, drained=True)) or []
        return going, [each for each in loaded if each not in going and each.is_in_use]

    def _make_go(self, going: Sequence[LoadedRunner], closed: Sequence[LoadedRunner]) -> None:
        for loaded in self._memory.loaded:
            loaded.is_leaving = loaded in going
            loaded.is_closed = loaded in closed
