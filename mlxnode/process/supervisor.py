"""The supervisor starts, connects, watches and ends the engine and the workers.

The supervisor imports neither sanic nor mlx and handles no request, so no request can end it.
Signal handlers and pipes only put events in a queue; the loop acts on the events.
"""

import logging
import queue
import signal
import socket
import time
from collections.abc import Callable, Mapping

from mlxnode.config.tables import NodeConfig
from mlxnode.errors import StatusError
from mlxnode.messages.control import (
    Access,
    Booking,
    Busy,
    Cancel,
    ChildToSupervisor,
    Cleared,
    Connected,
    Fatal,
    Loaded,
    LoadFailed,
    Pong,
    Progress,
    Ranks,
    Ready,
    StepFailed,
    Wake,
)
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel
from mlxnode.process.accounts import Accounts
from mlxnode.process.batch_process import BatchProcess
from mlxnode.process.changes import NodeModels
from mlxnode.process.child import Child, ChildEvent
from mlxnode.process.crashes import MAX_LOAD_CRASHES, EngineCrashes
from mlxnode.process.descriptors import raise_descriptor_limit
from mlxnode.process.ending import Ending
from mlxnode.process.fits import FitWeigher
from mlxnode.process.liveness import Liveness
from mlxnode.process.offer import Offer
from mlxnode.process.shared import PlaceError, SharedPlaces
from mlxnode.process.signals import catch_signals, has_terminal
from mlxnode.process.silence import EngineSilence
from mlxnode.process.sleep import WakeWhileBusy
from mlxnode.process.status import NodeStatus
from mlxnode.process.watch import ConfigWatch, Reload
from mlxnode.process.wiring import Wiring

log = logging.getLogger("mlxnode.supervisor")

TICK = 0.1  # seconds
MAX_FAILED_STARTS = 3  # of a child that was never ready

ENGINE = "mlxnode.engine.entry:run_engine"
WORKER = "mlxnode.server.worker:run_worker"
_Event = ChildEvent | signal.Signals | Reload | tuple[ServedModel, Weighed]


class Supervisor:
    """Runs the whole server until a signal, or until a child cannot start."""

    def __init__(
        self,
        config: NodeConfig,
        models: list[ServedModel],
        access: Access,
        listener: socket.socket,
        *,
        failed: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
        watch: ConfigWatch | None = None,
        weigher: FitWeigher | None = None,
        accounts: Accounts | None = None,
        on_ready: Callable[[dict[str, str]], None] = lambda failed: None,
        on_progress: Callable[[str], None] = lambda text: None,
        engine_entry: str = ENGINE,
        worker_entry: str = WORKER,
    ):
        """``failed`` has the configured models that are not in ``models``, with the reasons.

        ``aliases`` are more names of models: name -> id. ``watch`` finds changes of the
        configuration, and ``weigher`` which models fit. ``on_ready`` is called with all failed
        models, once the others are served.
        """
        self._listener, self._watch, self._weigher = listener, watch, weigher
        self._on_ready, self._on_progress = on_ready, on_progress
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._accounts = accounts or Accounts(config)
        self._places = SharedPlaces(config.server)
        self._crashes = EngineCrashes()
        self._engine = Child("engine", engine_entry, (), self._events.put)
        self._workers = [
            Child(
                f"worker {i}",
                worker_entry,
                (i, listener, config, models, access, self._places.for_workers),
                self._events.put,
            )
            for i in range(config.server.num_workers)
        ]
        self._awake = WakeWhileBusy(is_enabled=config.server.prevent_sleep)
        self._has_terminal = has_terminal()  # now: later, the terminal may be closed
        self._offer = Offer(
            config,
            NodeModels(models, dict(failed or {}), aliases or {}),
            self._engine,
            self._workers,
            self._crashes,
        )
        self._batches = BatchProcess(config, self._events.put)
        self._silence = EngineSilence(self._engine, self._workers)
        self._status = NodeStatus(
            listener, self._offer, watch and watch.ask, self._accounts, self._batches
        )
        self._status.ranks = self._silence.ranks
        self._wiring, self._was_ready = Wiring(), False
        self._ending = Ending(self._engine, self._workers, config.server)
        self._liveness = Liveness(self._children, config.server.hang_timeout)
        self._exit_code: int | None = None

    def run(self) -> int:
        """Serve; returns the exit code of the command."""
        raise_descriptor_limit()
        catch_signals(self._events.put)
        self._status.open()
        self._accounts.open()
        if self._watch is not None:
            self._watch.start(self._events.put)
        if self._weigher is not None:
            self._weigher.start(lambda model, weighed: self._events.put((model, weighed)))
        self._crashes.record.open()
        try:
            self._offer.renew(self._places.open())
            self._batches.open(self._places.inner_path)
            for child in self._children:
                self._start(child)
            while self._exit_code is None:
                self._handle_next()
                self._tick(time.monotonic())
        except PlaceError as error:
            log.error("%s", error)
            return 1
        finally:
            self._awake.release()
            self._status.close()
            if self._weigher is not None:
                self._weigher.close()
            self._kill_all()
            self._accounts.close()
            self._crashes.record.close()
            self._places.close()
        return self._exit_code

    @property
    def _children(self) -> list[Child]:
        return [self._engine, *self._workers]

    # --- events ---------------------------------------------------------------------

    def _handle_next(self) -> None:
        try:
            event = self._events.get(timeout=TICK)
        except queue.Empty:
            return
        if isinstance(event, signal.Signals):
            self._on_signal(event)
        elif isinstance(event, Reload):
            self._on_reload(event)
        elif isinstance(event, tuple):
            self._offer.note_fit(*event)
        elif event.is_current and event.child is self._batches.child:
            self._batches.take(event.message)
        elif event.is_current:
            self._on_child_event(event.child, event.message)

    def _on_child_event(self, child: Child, message: ChildToSupervisor | None) -> None:
        match message:
            case None:
                self._on_death(child)
            case Pong():
                child.mark_heard()
                self._offer.note_pong(child, message.sequence)
                self._status.note_pong(child, message)
            case Cancel():
                self._status.requests.cancel(message)
            case Progress(text, model):
                child.mark_progress(is_told=bool(text or model))
                self._crashes.note_loading(model)
                if text:
                    self._on_progress(text)
            case LoadFailed(failed):
                self._crashes.take(message)
                self._offer.note_failed(child.name, failed)
            case Ready(failed):
                self._on_child_ready(child, failed)
            case Connected(pipe_id):
                self._on_connected(pipe_id, child)
            case StepFailed(fingerprints):
                self._crashes.note_step(fingerprints)
                self._engine.send(self._crashes.suspects)
            case Cleared() | Loaded():
                self._crashes.take(message)
            case Ranks(ranks):
                self._silence.ranks.note(ranks, self._crashes)
            case Fatal(text) if child.was_ever_ready:
                child.give_up(text)
            case Fatal(text):
                self._fail(text)
            case _ if isinstance(message, Booking):
                self._accounts.take(child, message)
            case Wake():
                self._batches.wake()
            case Busy(is_busy):
                self._awake.note(child, is_busy=is_busy)

    def _start(self, child: Child) -> None:
        if child is self._engine:
            self._crashes.note_start()
            offer = self._offer
            child.arguments = (offer.config, offer.engine_models, self._crashes.record)
        try:
            child.start()
        except OSError as error:
            self._start_again(child, f"{child.name} cannot be started: {error.strerror}")

    def _start_again(self, child: Child, why: str, *, at_once: bool = False) -> None:
        tries = MAX_FAILED_STARTS + MAX_LOAD_CRASHES * len(self._crashes.failed_models)
        if not child.was_ever_ready and child.incarnation >= tries:
            self._fail(f"{why}; it does not start")
            return
        delay = child.schedule_restart(at_once=at_once)
        log.warning("%s; starting it again in %.1f s", why, delay)

    def _on_signal(self, number: signal.Signals) -> None:
        # A closing terminal signals twice: the system does, and so does the shell.
        if number == signal.SIGHUP and (self._ending.has_begun or not self._has_terminal):
            log.info("SIGHUP: going on")
            if self._watch is not None:
                self._watch.ask()
            return
        if self._ending.has_begun:
            log.info("%s again: ending now", number.name)
            self._exit_code = 128 + number
            return
        log.info("%s: draining", number.name)
        self._listener.close()
        self._batches.end()
        self._ending.begin()
        if self._ending.go_on():
            self._exit_code = 0

    def _on_death(self, child: Child) -> None:
        how = child.reap()
        self._awake.note(child, is_busy=False)
        self._wiring.drop(child)
        self._accounts.forget(child)
        if self._ending.has_begun:
            log.debug("%s", how)
            if self._ending.go_on():
                self._exit_code = 0
        elif child is self._engine:
            self._on_engine_crash(how)
        else:  # a worker that was ready takes a second or two to be so again: no crash loop
            self._start_again(child, how, at_once=child.became_ready)

    def _on_engine_crash(self, how: str) -> None:
        """Start the engine again: at once if it is known which requests to look at."""
        num_failed = len(self._crashes.failed_models)
        is_known = self._crashes.note_death()
        if len(self._crashes.failed_models) > num_failed:
            self._on_failed_models("crashes", self._crashes.failed_models)
        if self._exit_code is None:
            self._start_again(self._engine, how, at_once=is_known)

    def _fail(self, text: str) -> None:
        """End the command: a child cannot start, so there is nothing to serve."""
        log.error("%s", text)
        self._exit_code = 1

    def _on_failed_models(self, reporter: str, failed: dict[str, str]) -> None:
        """Tell all workers which models the node does not serve, before they are connected.

        A node that starts may end; later, it serves what is left, and what a reload brings.
        """
        self._offer.note_failed(reporter, failed)
        all_required = self._offer.config.server.require_all_models
        text = self._offer.failures.why_end(all_required=all_required)
        if text is not None and not self._was_ready:
            self._fail(text)

    def _on_reload(self, reload: Reload) -> None:
        if self._ending.has_begun:
            reload.refuse(StatusError("the node is ending"))
            return
        self._accounts.replace(reload.loaded)
        self._offer.replace(reload)
        if self._weigher is not None and self._was_ready:
            self._weigher.weigh(self._offer.unweighed)

    # --- connections ----------------------------------------------------------------

    def _on_child_ready(self, child: Child, failed: dict[str, str]) -> None:
        """Connect a child that has become ready with all children of the other side."""
        child.mark_ready()
        if child is self._engine:
            self._crashes.note_ready()
            child.send(self._crashes.suspects)
        self._on_failed_models(child.name, failed)
        if self._ending.has_begun:
            return
        if child is not self._engine:
            self._offer.tell(child)
        for worker in self._workers if child is self._engine else [child]:
            self._wiring.connect(worker, self._engine)
            self._silence.tell(worker)

    def _on_connected(self, pipe_id: int, child: Child) -> None:
        """The child has its end of the data pipe."""
        self._wiring.acknowledge(pipe_id, child)
        are_ready = all(child.is_ready for child in self._children)
        if not self._was_ready and are_ready and self._wiring.is_complete:
            self._was_ready = True
            self._on_ready(self._offer.failures.reasons)
            if self._weigher is not None:  # others do not wait for that
                self._weigher.weigh(self._offer.unweighed)

    # --- time -----------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._awake.update(now)
        self._status.update(now, is_draining=self._ending.has_begun)
        self._silence.update(now)
        self._offer.update(now)
        for child in self._children:
            if child.restart_at is not None and now >= child.restart_at:
                self._start(child)
        self._liveness.update(now)
        self._batches.update(now)
        self._ending.update(now)

    def _kill_all(self) -> None:
        self._batches.kill()
        for child in self._children:
            child.kill()
            child.reap()
