"""The models that are to be loaded, one after the other, in the order of asking."""

import logging
import time
from collections.abc import Callable

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.residency.known import KnownModel, LoadedRunner
from mlxnode.engine.residency.loading import ModelLoading, NotNow
from mlxnode.engine.residency.release import collect
from mlxnode.engine.residency.transitions import Transitions
from mlxnode.errors import panics_caught, reason_of
from mlxnode.kernels.backend import BackendError, Kernels

log = logging.getLogger("mlxnode.engine")


# Seconds after which a load that only the background waits for looks for room again.
POSTPONED = 5.0


class LoadQueue:
    """Loads what is asked for. ``say`` takes a line for the user."""

    def __init__(
        self,
        transitions: Transitions,
        config: EngineConfig,
        kernels: Kernels,
        say: Callable[[str], None],
    ):
        self._transitions = transitions
        self._catalog = transitions.catalog
        self._memory = transitions.memory
        self._config = config
        self._kernels = kernels
        self._say = say
        self._models: list[KnownModel] = []  # the first one is next
        self._loading: ModelLoading | None = None

    def add(self, model: KnownModel) -> None:
        """``model`` is to be loaded; at once, if a runner with its weights is."""
        if model.loaded is not None or self._catalog.is_replacing(model):
            return  # what leaves is added again when it has left
        loaded = self._memory.find(model.key)
        if loaded is not None and not loaded.is_going and self._can_share(model, loaded):
            self._transitions.attach(model, loaded)
        elif model not in self._models:
            self._models.append(model)

    def drop(self, model: KnownModel) -> None:
        """``model`` is configured no more."""
        if model in self._models:
            self._models.remove(model)
        if self._loading is not None and self._loading.model is model:
            self._give_up()

    def note_change(self) -> None:
        """A request has ended, or a model has left or is pinned: there may be room now."""
        if self._loading is not None:
            self._loading.is_stale = True

    def load_piece(self) -> bool:
        """Do one piece; False if there is nothing to do, or requests have to end first."""
        loading = self._loading
        if loading is not None and not loading.is_reading and not loading.model.is_asked_for:
            self._give_up()  # those who waited have left
            loading = None
        loading = self._loading = self._loading or self._next()
        if loading is None or (loading.is_waiting and not loading.is_stale):
            return False
        if loading.model.is_for_background and self._is_foreground_alone:
            return False
        self._transitions.host.begin_piece()
        match self._advance(loading):
            case LoadedRunner() as loaded:
                self._stop()
                self._transitions.attach(loading.model, loaded)
            case NotNow() as postponed:
                self._postpone(loading.model, str(postponed))
            case str() as reason:
                self._fail(loading.model, reason)
        return True

    def _advance(self, loading: ModelLoading) -> LoadedRunner | NotNow | str | None:
        """Do one piece; the runner after the last one, or why there is none."""
        try:
            with panics_caught():
                return loading.advance()
        except NotNow as reason:
            return NotNow(str(reason))
        except Exception as error:  # of any type: mlx-lm raises whatever its models raise
            if isinstance(error, BackendError) and self._transitions.is_starting:
                raise  # no fault of the model
            log.debug("%s cannot be loaded", loading.model.id, exc_info=error)
            return reason_of(error)

    def _next(self) -> ModelLoading | None:
        self._models = [model for model in self._models if model.is_asked_for]
        now = time.monotonic()
        for model in sorted(self._models, key=lambda model: model.is_for_background):
            if model.is_postponed(now):
                continue
            if model.is_for_background and self._memory.has_foreground:
                break
            loaded = self._memory.find(model.key)
            if loaded is not None and loaded.is_going:
                continue  # it is loaded again when it has left
            self._models.remove(model)
            if loaded is not None and self._can_share(model, loaded):
                self._transitions.attach(model, loaded)  # loaded since the model was asked for
                continue
            self._transitions.host.begin_loading(model.id)
            return ModelLoading(
                model, self._catalog, self._memory, self._config, self._kernels, self._say
            )
        return None

    @property
    def _is_foreground_alone(self) -> bool:
        """True if a load for the background waits: it would take time from the foreground.

        It goes on if another load waits for its end.
        """
        is_awaited = any(not model.is_for_background for model in self._models)
        return self._memory.has_foreground and not is_awaited

    def _can_share(self, model: KnownModel, loaded: LoadedRunner) -> bool:
        """True if both have the same kind of KV caches; otherwise, the load says why not."""
        bits = [
            self._config.for_model(each.served.kv_cache_bits).kv_cache_bits
            for each in (model, loaded.models[0])
        ]
        return bits[0] == bits[1]

    def _fail(self, model: KnownModel, reason: str) -> None:
        self._say(f"{model.id} failed: {reason}")
        self._transitions.fail(model, reason)
        self._give_up()

    def _postpone(self, model: KnownModel, reason: str) -> None:
        if model.is_for_background:
            model.postponed_until = time.monotonic() + POSTPONED
            self._models.append(model)
            self._give_up()
            return
        self._say(f"{model.id} is loaded when it is asked for: beside the others, it {reason}")
        model.is_wanted = False
        self._give_up()

    def _give_up(self) -> None:
        """The current load has come to nothing: its memory is free."""
        self._stop()
        collect()
        self._transitions.end_load()

    def _stop(self) -> None:
        """End the current load; those who were to make room for it take requests again."""
        if self._loading is not None:
            self._loading.close()
            self._loading = None
            for model in self._catalog:
                self._transitions.run_waiting(model)
