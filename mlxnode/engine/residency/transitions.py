"""The moments at which a model changes its state, and what those who wait are told."""

import logging
import math
import time
from typing import Protocol

from mlxnode.engine.residency.catalog import Catalog
from mlxnode.engine.residency.figures import TokensOfModels
from mlxnode.engine.residency.known import RETRY_AFTER, KnownModel, LoadedRunner
from mlxnode.engine.residency.memory import ModelMemory
from mlxnode.engine.residency.release import collect, end_runner
from mlxnode.engine.residency.waiting import Work
from mlxnode.engine.work import CANNOT_SERVE, RequestKey
from mlxnode.messages.control import ChildToSupervisor, Loaded, LoadFailed
from mlxnode.messages.data import Done, Failed, ModelStates

log = logging.getLogger("mlxnode.engine")


class Host(Protocol):
    """What the residency asks of the engine."""

    def run_request(self, key: RequestKey, message: Work) -> None:
        """Run this request, which has waited: its model is loaded."""
        ...

    def give_back(self, key: RequestKey) -> None:
        """End this request, which is in the background: its model makes room."""
        ...

    def answer(self, pipe_id: int, message: Done | Failed) -> None:
        """Send the last message of a uid; a request that waited has ended."""
        ...

    def report(self, message: ChildToSupervisor) -> None:
        """Send a message to the supervisor."""
        ...

    def begin_loading(self, model_id: str) -> None:
        """From now on, the engine may die of the files of this model."""
        ...

    def begin_piece(self) -> None:
        """The engine works on a model now, and on no request."""
        ...

    def tell_states(self, states: ModelStates) -> None:
        """A model has another state, or is pinned or not: tell the workers."""
        ...

    def on_memory(self, weights: int, /) -> None:
        """Other models are loaded; the bytes of their weights."""
        ...


class Transitions:
    """Changes the states of models, one at a time, and tells who has to know."""

    def __init__(self, catalog: Catalog, memory: ModelMemory, host: Host):
        self.catalog = catalog
        self.memory = memory
        self.host = host
        self.tokens = TokensOfModels()
        self.is_starting = True  # nobody is connected
        self._told_states: ModelStates | None = None
        self._told_failed: dict[str, str] = {}

    @property
    def states(self) -> ModelStates:
        """Of all known models."""
        models = self.catalog.models.values()
        return ModelStates(
            {model.id: model.state for model in models},
            [model.id for model in models if model.is_pinned],
        )

    @property
    def failed(self) -> dict[str, str]:
        """The models that cannot be loaded, with the reasons."""
        models = self.catalog.models.values()
        return {model.id: model.failure for model in models if model.failure is not None}

    def tell(self) -> None:
        """Tell what has changed since the last time."""
        if self.is_starting:
            return
        if (states := self.states) != self._told_states:
            self._told_states = states
            self.host.tell_states(states)
        if self.failed != self._told_failed:
            self._tell_failed()

    def end_load(self) -> None:
        """A load has come to nothing: the supervisor must not blame its model any more."""
        if not self.is_starting:
            self.memory.share()
            self._tell_failed()

    def _tell_failed(self) -> None:
        self._told_failed = self.failed
        self.host.report(LoadFailed(self._told_failed))

    def end_start(self) -> None:
        """All is loaded that is to be at the start; ``Ready`` tells what failed."""
        self.is_starting = False
        self._told_failed = self.failed
        self._share()
        self.tell()

    def attach(self, model: KnownModel, loaded: LoadedRunner) -> None:
        """``model`` is loaded: those who wait for it go on."""
        if loaded not in self.memory.loaded:
            self.memory.loaded.append(loaded)
            self._share()
        loaded.models.append(model)
        model.loaded, model.failure = loaded, None
        model.is_wanted = model.is_leaving = False
        model.num_loads += 1
        model.used_at = model.foreground_at = time.monotonic()
        self.host.report(Loaded(model.id))
        self.answer_all(model.loads, None)
        self.run_waiting(model)
        model.is_leaving = bool(model.unloads)  # they came while it was loaded

    def run_waiting(self, model: KnownModel) -> None:
        """Run the requests that wait for ``model``, if it takes requests."""
        if model.waiting and model.accepts:
            for key, message in model.waiting.take_all().items():
                self.host.run_request(key, message)

    def detach(self, model: KnownModel) -> None:
        """``model`` is not loaded any more. The last model of a runner frees its memory."""
        loaded, model.loaded = model.loaded, None
        if loaded is None:
            return
        loaded.models.remove(model)
        model.is_leaving = False
        if model.is_gone:
            self.catalog.gone.remove(model)
        if not loaded.models:
            self.memory.loaded.remove(loaded)
            self.tokens.keep(loaded)
            end_runner(loaded.runner)
            del loaded
            collect()
            self._share()
            log.info("%s is unloaded", model.id)
        self.answer_all(model.unloads, None)

    def fail(self, model: KnownModel, reason: str) -> None:
        """``model`` cannot be loaded."""
        model.failure, model.is_wanted = reason, False
        # What failed at the start is as it was configured; a load is only tried again.
        model.retry_at = math.inf if self.is_starting else time.monotonic() + RETRY_AFTER
        self.answer_all(model.unloads, None)
        self.answer_all(model.loads, reason)
        self.refuse_waiting(model, reason)

    def forget(self, model: KnownModel) -> None:
        """``model`` is configured no more, and nobody is to wait for it."""
        if model.loaded is None:
            self.answer_all(model.unloads, None)
        self.answer_all(model.loads, CANNOT_SERVE)
        for key in model.waiting.take_all():
            self.host.answer(key.pipe_id, Failed(key.uid, "internal", CANNOT_SERVE))

    def refuse_waiting(self, model: KnownModel, reason: str) -> None:
        for key in model.waiting.take_all():
            self.host.answer(key.pipe_id, Failed(key.uid, "model", reason))

    def answer_all(self, keys: set[RequestKey], problem: str | None) -> None:
        """Answer ``Load`` or ``Unload`` messages."""
        for key in sorted(keys):
            ok = problem is None
            answer = Done(key.uid) if ok else Failed(key.uid, "model", problem)
            self.host.answer(key.pipe_id, answer)
        keys.clear()

    def _share(self) -> None:
        if not self.is_starting:
            self.memory.share()
            self.host.on_memory(self.memory.weights)
