"""The engine's loop: receive, step, send.

One thread does all MLX work, because MLX's streams belong to a thread. The reader threads of
the pipes put messages into one inbox. The outputs of a step go out as one message for each
worker.
"""

import logging
import os
import queue
import time
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

from mlxnode.engine.figures import FiguresReader
from mlxnode.engine.idle import IdleTime
from mlxnode.engine.lanes import Lanes
from mlxnode.engine.memory.guard import MemoryGuard
from mlxnode.engine.pipes import FromWorker, Joined, WorkerPipes
from mlxnode.engine.residency.known import KnownModel
from mlxnode.engine.residency.release import release_memory
from mlxnode.engine.residency.residency import Residency
from mlxnode.engine.stepping import Stepper
from mlxnode.engine.suspicion import Suspicion
from mlxnode.engine.work import CANNOT_SERVE, GIVEN_BACK, Output, RequestKey
from mlxnode.messages.control import (
    ChildToSupervisor,
    Cleared,
    Connect,
    Connected,
    Drain,
    Models,
    Ping,
    Pong,
    Progress,
    Ready,
    Stop,
    SupervisorToChild,
    Suspects,
)
from mlxnode.messages.data import (
    Abort,
    Done,
    Embed,
    EngineToWorker,
    Failed,
    Generate,
    Load,
    ModelStates,
    Tokens,
    Unload,
    Update,
)
from mlxnode.process import garbage
from mlxnode.process.pipe import Pipe
from mlxnode.process.pulse import stop_pulse
from mlxnode.process.step_record import StepRecord

log = logging.getLogger("mlxnode.engine")

SAVE_SECONDS = 2.0  # for prefixes, at the end; the supervisor waits little longer
LOAD_SECONDS = 0.05  # between two steps, for models that are loaded meanwhile
# For a message to the supervisor that must not be lost if this process dies.
FLUSH_SECONDS = 1.0


_Event = SupervisorToChild | FromWorker | Joined


class Accepted(NamedTuple):
    """A request that has not ended, also one that waits for its model."""

    model: KnownModel
    arrived_at: float


class Engine:
    """Serves the requests of all workers, each with its model."""

    def __init__(
        self,
        control: Connection,
        record: StepRecord | None = None,
        on_memory: Callable[[int], None] = lambda weights: None,
    ):
        """``record`` outlives this process, and tells what it worked on.

        ``on_memory`` is called with the bytes of all weights when other models are loaded.
        """
        self._control = control
        self._suspicion = Suspicion(record)
        self.on_memory = on_memory
        self._inbox: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._workers = WorkerPipes(self._inbox.put)
        self._residency: Residency | None = None  # None: the node starts
        self._requests: dict[RequestKey, Accepted] = {}
        self._guard: MemoryGuard | None = None
        self._figures: FiguresReader | None = None
        self._has_pieces = False  # of a model that is loaded or unloaded between the steps
        self._is_stopping = False
        self._idle = IdleTime(release_memory, self._do_idle_work)
        self._stepper = Stepper(self._suspicion, self.report, self._emit)
        self._supervisor = Pipe(
            control,
            SupervisorToChild,
            on_message=self._on_control,
            # Without a supervisor the engine must end, whatever the loop is doing.
            on_close=lambda: os._exit(0),
            name="control",
        )
        self._supervisor.start()

    def serve(self, residency: Residency, guard: MemoryGuard, figures: FiguresReader) -> None:
        """Take the models, and report that workers can be connected."""
        self._residency, self._guard, self._figures = residency, guard, figures
        garbage.freeze()
        stop_pulse(self._control)
        self.report(Ready(residency.failed))

    def run(self) -> None:
        """Serve until the supervisor sends a stop."""
        while not self._is_stopping:
            self._handle_messages()
            if self._has_work:
                # A load takes the place of the background: somebody may wait for it.
                self._stepper.step(self._runners, runs_background=not self._has_pieces)
                if self._guard is not None:
                    self._emit(self._guard.check(self._runners))
                if not self._has_work:
                    self._rest()
            if self._residency is not None and not self._is_stopping:
                self._has_pieces = self._residency.advance_for(LOAD_SECONDS)
        deadline = time.monotonic() + SAVE_SECONDS
        while self._do_idle_work() and time.monotonic() < deadline:
            pass

    def _rest(self) -> None:
        """The engine works on nothing from now on."""
        self._suspicion.note(())
        self._idle.begin()

    @property
    def _runners(self) -> list[Lanes]:
        return [] if self._residency is None else self._residency.runners

    @property
    def _has_work(self) -> bool:
        return any(runner.has_work for runner in self._runners)

    # --- what the residency asks for ------------------------------------------------

    def report(self, message: ChildToSupervisor) -> None:
        """Send a message to the supervisor."""
        self._supervisor.send(message)

    def flush(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until the supervisor has what was reported."""
        self._supervisor.flush(timeout)

    def say(self, text: str) -> None:
        """Tell the user who started the node, or those who read the log of one that runs."""
        if self._residency is None:
            self.report(Progress(text))
        else:
            log.info("%s", text)

    def begin_loading(self, model_id: str) -> None:
        """The supervisor learns of it in any case: this process may die of the files."""
        self.report(Progress("", model_id))
        self.flush(FLUSH_SECONDS)

    def begin_piece(self) -> None:
        self._rest()

    def tell_states(self, states: ModelStates) -> None:
        self._workers.send_all(states)

    def answer(self, pipe_id: int, message: Done | Failed) -> None:
        """Send the last message of a uid; a request that waited for its model has ended."""
        key = RequestKey(pipe_id, message.uid)
        if isinstance(message, Failed) and key in self._requests:
            self._end(Output(pipe_id, message))
        self._send(pipe_id, message)

    def give_back(self, key: RequestKey) -> None:
        """End a request in the background, which its worker sends again."""
        self._abort(key)
        self._send(key.pipe_id, Failed(key.uid, "overloaded", GIVEN_BACK))

    def run_request(self, key: RequestKey, message: Generate | Embed) -> None:
        """Run a request whose model is loaded, unless it is in quarantine."""
        if self._residency is not None:
            self._residency.begin(self._requests[key].model, key, message.background)
            if not self._suspicion.hold(key, message):
                self._run(key, message)

    # --- messages -------------------------------------------------------------------

    def _on_control(self, message: SupervisorToChild) -> None:
        # On the reader thread: the descriptor after a Connect must be read there.
        if isinstance(message, Connect):
            self._workers.connect(message.pipe_id, self._supervisor.receive_fd())
            self._supervisor.send(Connected(message.pipe_id))
        else:
            self._inbox.put(message)

    def _handle_messages(self) -> None:
        """Handle all messages in the inbox. Wait for the first if there is nothing to do."""
        may_wait = not self._has_work and not self._has_pieces
        while (event := self._next_event(may_wait)) is not None:
            may_wait = False
            if isinstance(event, FromWorker | Joined):
                self._handle_worker(event)
            else:
                self._handle_order(event)
            if self._is_stopping:
                return

    def _handle_worker(self, event: FromWorker | Joined) -> None:
        match event:
            case FromWorker(pipe_id, Generate() | Embed() as message):
                self._add(RequestKey(pipe_id, message.uid), message)
            case FromWorker(pipe_id, Abort(uid)):
                self._abort(RequestKey(pipe_id, uid))
            case FromWorker(pipe_id, Load() | Unload() as order) if self._residency:
                self._residency.order(pipe_id, order)
            case FromWorker(pipe_id, None):
                self._workers.forget(pipe_id)
                self._abort_all(pipe_id)
            case Joined(pipe_id) if self._residency:
                self._send(pipe_id, self._residency.states)

    def _handle_order(self, order: SupervisorToChild) -> None:
        match order:
            case Ping(sequence):
                figures = None if self._figures is None else self._figures.read()
                self._supervisor.send(Pong(sequence, figures))
            case Models(models=models) if self._residency:
                self._residency.configure(models)
            case Suspects():
                self._suspicion.learn(order)
            case Stop() | Drain():
                self._is_stopping = True

    def _next_event(self, may_wait: bool) -> _Event | None:
        """The next message; None: there is none, but work, or something to do by the clock.

        Without messages and other work, the engine does its idle work.
        """
        try:
            if not may_wait:
                return self._inbox.get_nowait()
            times = [self._idle.seconds_to_work]
            times.append(self._residency.seconds_to_next if self._residency else None)
            timeout = min((each for each in times if each is not None), default=None)
            return self._inbox.get(timeout=timeout)
        except queue.Empty:
            if may_wait:
                self._idle.work()
            return None

    def _do_idle_work(self) -> bool:
        """Let one runner do one task; False if none has one."""
        return any(runner.do_idle_work() for runner in self._runners)

    def _add(self, key: RequestKey, message: Generate | Embed) -> None:
        model = self._residency.find(message.model) if self._residency else None
        if self._residency is None or model is None:
            self._send(key.pipe_id, Failed(key.uid, "internal", CANNOT_SERVE))
        elif (refusal := self._suspicion.refusal(key, message)) is not None:
            self._send(key.pipe_id, refusal)
        else:
            self._requests[key] = Accepted(model, time.monotonic())
            if model.accepts:
                self.run_request(key, message)
            elif (refusal := self._residency.wait(model, key, message)) is not None:
                self.answer(key.pipe_id, refusal)

    def _run(self, key: RequestKey, message: Generate | Embed) -> None:
        model, arrived_at = self._requests[key]
        loaded = model.loaded
        if loaded is None:
            raise RuntimeError(f"{message.model} was unloaded before its requests had ended")
        runner = loaded.runner
        self._suspicion.note([*runner.active, key])  # its grammar is compiled already
        if (refusal := runner.add(key, message, arrived_at)) is not None:
            self._end(Output(key.pipe_id, refusal))
            self._send(key.pipe_id, refusal)

    def _abort(self, key: RequestKey) -> None:
        if self._residency is None:
            return
        if (accepted := self._requests.pop(key, None)) is None:
            self._residency.withdraw(key)
            return
        model = accepted.model
        if model.loaded is not None:
            model.loaded.runner.abort(key)
        self._residency.end(model, key)
        self._suspicion.forget(key)
        self._run_held()

    def _end(self, output: Output) -> None:
        """Forget a request after its last output."""
        accepted = self._requests.pop(output.key, None)
        if accepted is not None and self._residency is not None:
            self._residency.end(accepted.model, output.key)
        watched = self._suspicion.forget(output.key)
        if watched is not None and not isinstance(output.message, Failed):
            self._supervisor.send(Cleared(watched))

    def _run_held(self) -> None:
        """Run the requests in quarantine whose turn it is."""
        while (held := self._suspicion.release()) is not None:
            self._run(*held)

    def _abort_all(self, pipe_id: int) -> None:
        for key in [key for key in self._requests if key.pipe_id == pipe_id]:
            self._abort(key)
        if self._residency is not None:
            self._residency.withdraw_all(pipe_id)

    # --- outputs --------------------------------------------------------------------

    def _emit(self, outputs: list[Output]) -> None:
        """Send outputs. All updates for a worker go into one message."""
        updates: dict[int, list[Update]] = defaultdict(list)
        for output in outputs:
            if output.is_last:
                self._end(output)
            if isinstance(output.message, Update):
                updates[output.pipe_id].append(output.message)
            else:
                self._send(output.pipe_id, output.message)
        for pipe_id, batch in updates.items():
            self._send(pipe_id, Tokens(batch))
        self._run_held()

    def _send(self, pipe_id: int, message: EngineToWorker) -> None:
        if not self._workers.send(pipe_id, message):
            self._abort_all(pipe_id)
