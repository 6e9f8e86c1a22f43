"""What the node offers: its models and who may use them, as all children know it.

New models go to the engine first, then to the workers, so that no request for a new model comes
to an engine that does not know it. A child confirms by its answer to a ping, since it handles
messages in their order.
"""

import time
from collections.abc import Iterable, Mapping, Sequence

from mlxnode.config.tables import NodeConfig
from mlxnode.messages.control import FailedModels, Fits, Models, Ping
from mlxnode.messages.message import Message
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel
from mlxnode.process.access import access_of
from mlxnode.process.changes import NodeModels, at_run_time, changed_ids
from mlxnode.process.child import Child
from mlxnode.process.crashes import EngineCrashes
from mlxnode.process.failures import ModelFailures
from mlxnode.process.watch import Reload

CONFIRM_TIMEOUT = 10.0  # seconds for children to confirm; then the node goes on without that
_FIRST_SEQUENCE = 1 << 31  # of pings that are to be confirmed; other pings have small numbers


class Offer:
    """The offer of the moment, and how it reaches the children.

    The supervisor's loop calls all methods.
    """

    def __init__(
        self,
        config: NodeConfig,
        models: NodeModels,
        engine: Child,
        workers: Sequence[Child],
        crashes: EngineCrashes,
    ):
        self.config = config
        self.models = models
        self.fits = Fits({})
        self.failures = ModelFailures(config.api.models, models.failed)
        self.engine = engine
        self.workers = workers
        self._crashes = crashes
        self._reloads: list[Reload] = []  # that are not confirmed yet
        self._is_at_workers = False
        self._sequence = _FIRST_SEQUENCE
        self._waiting: dict[Child, int] = {}  # who has to confirm -> incarnation
        self._deadline = 0.0

    @property
    def engine_models(self) -> list[ServedModel]:
        """All models that have not ended an engine each time."""
        return [
            model for model in self.models.models if model.id not in self._crashes.failed_models
        ]

    def replace(self, reload: Reload) -> None:
        """Offer this from now on: to children that run, and to those that are started later."""
        changed = changed_ids(self.models, reload.models)
        self.models = reload.models
        self.config = at_run_time(self.config, reload.loaded.config).without_secrets()
        self._crashes.forgive(changed)
        self.failures.replace(self.config.api.models, reload.models.failed, changed)
        self.set_fits(self._fits_of(self.models.models, without=changed))
        access = access_of(reload.loaded)
        self.renew(access, self.config, self.models.models)
        for worker in self.workers:
            worker.send(access)
        self._reloads.append(reload)
        self._is_at_workers = False
        now = time.monotonic()
        self._send(now, [self.engine], self._models_for(self.engine_models))
        self.update(now)

    def renew(self, *arguments: object) -> None:
        """Give each of ``arguments`` to workers that are started from now on, by its type."""
        new = {type(argument): argument for argument in arguments}
        for worker in self.workers:
            worker.arguments = tuple(new.get(type(old), old) for old in worker.arguments)

    def set_fits(self, fits: Fits) -> None:
        """Tell all workers which models fit."""
        self.fits = fits
        for worker in self.workers:
            if worker.is_ready:
                worker.send(fits)

    def note_failed(self, reporter: str, failed: Mapping[str, str]) -> None:
        """Take the report of a child, and tell all workers which models are not served."""
        self.failures.update(reporter, failed)
        for worker in self.workers:
            if worker.is_ready:
                worker.send(FailedModels(self.failures.reasons))

    def note_fit(self, model: ServedModel, weighed: Weighed) -> None:
        """Add the verdict on a model, if it is still offered."""
        if model in self.models.models:
            self.set_fits(Fits(self.fits.verdicts | {model.id: weighed}))

    @property
    def unweighed(self) -> list[ServedModel]:
        """The models without a verdict."""
        return [model for model in self.models.models if model.id not in self.fits.verdicts]

    def tell(self, worker: Child) -> None:
        """Tell a worker that has just become ready what its arguments do not say."""
        worker.send(self._models_for(self.models.models))
        worker.send(self.fits)

    def note_pong(self, child: Child, sequence: int) -> None:
        """The child has handled all messages before the ping of this number."""
        if sequence == self._sequence and self._waiting.pop(child, None) is not None:
            self.update(time.monotonic())

    def update(self, now: float) -> None:
        """Go on if nobody has to confirm any more, or if that takes too long."""
        while self._reloads and (not self._is_waiting or now > self._deadline):
            if self._is_at_workers:
                for reload in self._reloads:
                    reload.confirm()
                self._reloads = []
                return
            self._is_at_workers = True
            failed = FailedModels(self.failures.reasons)
            self._send(now, self.workers, self._models_for(self.models.models), failed)

    @property
    def _is_waiting(self) -> bool:
        """True if a child that has to confirm still runs."""
        return any(
            child.is_ready and child.incarnation == incarnation
            for child, incarnation in self._waiting.items()
        )

    def _send(self, now: float, children: Sequence[Child], *messages: Message) -> None:
        """Send the messages; children that are ready confirm them."""
        self._sequence += 1
        self._waiting = {}
        self._deadline = now + CONFIRM_TIMEOUT
        for child in children:
            for message in messages:
                child.send(message)
            if child.is_ready:
                self._waiting[child] = child.incarnation
                child.send(Ping(self._sequence))

    def _models_for(self, models: list[ServedModel]) -> Models:
        tables = self.config.api.models
        return Models(
            models=models,
            types={id: table.type for id, table in tables.items()},
            aliases=dict(self.models.aliases),
        )

    def _fits_of(self, models: Iterable[ServedModel], without: Iterable[str]) -> Fits:
        kept = {model.id for model in models} - set(without)
        verdicts = self.fits.verdicts
        return Fits({id: verdict for id, verdict in verdicts.items() if id in kept})
