"""Which models are in memory: loads what is asked for, and unloads what has to go.

``advance`` does one bounded piece of work and returns, so that the loop of the engine serves
others meanwhile. One model is loaded at a time, in the order of asking.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.kvcache.origin import remove_stale
from mlxnode.engine.lanes import Lanes
from mlxnode.engine.ranks.leader import Leader
from mlxnode.engine.residency.catalog import Catalog
from mlxnode.engine.residency.known import KnownModel
from mlxnode.engine.residency.memory import ModelMemory
from mlxnode.engine.residency.queue import LoadQueue
from mlxnode.engine.residency.transitions import Host, Transitions
from mlxnode.engine.residency.waiting import Work
from mlxnode.engine.work import CANNOT_SERVE, RequestKey
from mlxnode.figures import ModelFigures
from mlxnode.kernels.backend import Kernels
from mlxnode.messages.data import Done, Failed, Load, ModelStates, Unload
from mlxnode.models.cache_folder import cache_folder
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.engine")


class Residency:
    """The models of the engine, and whoever waits for them."""

    def __init__(
        self,
        config: EngineConfig,
        kernels: Kernels,
        host: Host,
        say: Callable[[str], None],
        ranks: Leader | None = None,
    ):
        """``say`` takes a line for the user who started the node.

        ``ranks``: the other machines of this engine, if there are some.
        """
        self._config = config
        self._catalog = Catalog()
        self.memory = ModelMemory(config, ranks)
        self._transitions = Transitions(self._catalog, self.memory, host)
        self._queue = LoadQueue(self._transitions, config, kernels, say)
        self._host = host

    # --- what is there --------------------------------------------------------------

    @property
    def runners(self) -> list[Lanes]:
        """The runners that are loaded now."""
        return [loaded.runner for loaded in self.memory.loaded]

    @property
    def states(self) -> ModelStates:
        return self._transitions.states

    @property
    def failed(self) -> dict[str, str]:
        """The models that cannot be loaded, with the reasons."""
        return self._transitions.failed

    def find(self, id: str) -> KnownModel | None:
        return self._catalog.models.get(id)

    def figures(self) -> list[ModelFigures]:
        """The figures of all known models, loaded or not."""
        return self._transitions.tokens.figures(self._catalog.models.values(), self.memory)

    # --- models ---------------------------------------------------------------------

    def start(self, models: Sequence[ServedModel]) -> None:
        """Load what is to be loaded before the first request: the pinned models first.

        Raises:
            BackendError: a kernel that the configuration requires does not work.
        """
        if self._config.prefix_cache_disk_gb:
            remove_stale(cache_folder() / "prefixes")
        self._catalog.configure(models)
        wanted = [model for model in self._catalog if model.is_wanted]
        for model in sorted(wanted, key=lambda model: not model.is_pinned):
            self._queue.add(model)
        while self.advance():
            pass
        self._transitions.end_start()

    def configure(self, models: Sequence[ServedModel]) -> None:
        """Take other models: new ones are loaded as they say, others leave."""
        for old in self._catalog.configure(models):
            self._queue.drop(old)
            self._transitions.forget(old)
        self._queue.note_change()
        for model in list(self._catalog.models.values()):
            self._ask(model)
        self._transitions.tell()

    # --- requests -------------------------------------------------------------------

    def begin(self, model: KnownModel, key: RequestKey, is_background: bool = False) -> None:
        """A request of a loaded model begins."""
        model.requests.add(key)
        if is_background:
            model.background.add(key)
        else:
            model.used_at = model.foreground_at = time.monotonic()

    def end(self, model: KnownModel, key: RequestKey) -> None:
        """A request has ended in any way, also one that waits for its model."""
        if model.waiting.remove(key):
            return
        model.requests.discard(key)
        model.ended_at = time.monotonic()
        if key not in model.background:
            model.foreground_at = model.ended_at
        model.background.discard(key)
        self._queue.note_change()

    def wait(self, model: KnownModel, key: RequestKey, message: Work) -> Failed | None:
        """A request waits until ``model`` is loaded; returns why it does not."""
        if model.failure is not None and not model.loads:
            return Failed(key.uid, "model", model.failure)
        size, is_background = self._config.max_queue_size, message.background
        if model.waiting.is_full_for(message.key, size, is_background=is_background):
            reason = (
                f"{len(model.waiting)} requests are already waiting until it is loaded, "
                "and this client has its share of them (engine.max_queue_size); try again later"
            )
            return Failed(key.uid, "overloaded", reason)
        model.waiting.add(key, message)
        if not message.background:
            model.used_at = time.monotonic()
        self._ask(model)
        self._transitions.tell()
        return None

    # --- orders ---------------------------------------------------------------------

    def order(self, pipe_id: int, message: Load | Unload) -> None:
        """Load or unload a model; answered when it is done."""
        model, key = self.find(message.model), RequestKey(pipe_id, message.uid)
        if model is None:
            self._host.answer(pipe_id, Failed(key.uid, "internal", CANNOT_SERVE))
        elif isinstance(message, Load):
            self._load(model, key, message.pin)
        else:
            self._unload(model, key)
        self._transitions.tell()

    def withdraw(self, key: RequestKey) -> None:
        """Nobody waits for the answer to an order any more; it is carried out all the same."""
        for model in self._catalog:
            if key in model.loads:
                model.loads.remove(key)
                model.is_wanted = True
            if key in model.unloads:
                model.unloads.remove(key)
                model.is_leaving = model.loaded is not None

    def withdraw_all(self, pipe_id: int) -> None:
        """The same for all orders that came through this pipe."""
        for model in self._catalog:
            for key in [*model.loads, *model.unloads]:
                if key.pipe_id == pipe_id:
                    self.withdraw(key)

    def _load(self, model: KnownModel, key: RequestKey, pin: bool | None) -> None:
        if pin is not None:
            model.is_pinned = pin
            self._queue.note_change()
        if model.state == "loaded":
            self._host.answer(key.pipe_id, Done(key.uid))
        else:
            model.loads.add(key)
            self._ask(model)

    def _unload(self, model: KnownModel, key: RequestKey) -> None:
        if model.loaded is None and not model.may_displace:
            model.is_wanted = False  # a load that nobody waits for
            self._host.answer(key.pipe_id, Done(key.uid))
        else:
            model.unloads.add(key)
            model.is_leaving = model.loaded is not None
            self._queue.note_change()

    # --- work -----------------------------------------------------------------------

    def advance_for(self, seconds: float) -> bool:
        """Do one piece of work, and more for about ``seconds``; False as ``advance``.

        The first piece waits until the device has ended the step that was launched last.
        """
        has_more = self.advance()
        deadline = time.monotonic() + seconds
        while has_more and time.monotonic() < deadline:
            has_more = self.advance()
        return has_more

    def advance(self) -> bool:
        """Do one piece of work; False if there is none before the next message or step."""
        self._look_at_clock()
        self._give_back()
        did = self._unload_one() or self._queue.load_piece()
        self._transitions.tell()
        return did

    @property
    def seconds_to_next(self) -> float | None:
        """Until there is something to do by the clock; None: nothing."""
        at = min((model.changes_at for model in self._catalog), default=math.inf)
        return None if at == math.inf else max(at - time.monotonic(), 0.0)

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        for model in [model for model in self._catalog if model.changes_at <= now]:
            if model.failure is not None:
                model.failure = None  # the next request tries it again
            else:
                log.info("%s had no request for %.0f s", model.id, now - model.last_at)
                model.is_leaving = True

    def _give_back(self) -> None:
        """Nobody who waits for a load or an unload waits for the background of a model."""
        for model in self._catalog:
            loaded = model.loaded
            if model.background and loaded and (model.is_leaving or loaded.gives_back):
                for key in list(model.background):
                    self._host.give_back(key)

    def _unload_one(self) -> bool:
        for model in self._catalog:
            loaded = model.loaded
            if loaded is None or model.requests:
                continue
            if not (model.is_leaving or loaded.is_leaving):
                continue
            self._host.begin_piece()
            if len(loaded.models) == 1 and loaded.runner.do_idle_work():
                return True  # it has written a prefix to disk; perhaps there are more
            del loaded
            self._transitions.detach(model)
            self._queue.note_change()
            for waiting in list(self._catalog.models.values()):
                self._ask(waiting)  # it was in the way of those, or is asked for again
            return True
        return False

    def _ask(self, model: KnownModel) -> None:
        if model.is_asked_for:
            self._queue.add(model)
