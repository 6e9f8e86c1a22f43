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
from dataclasses import dataclass
from multiprocessing.connection import Connection

import mlx.core as mx

from mlxnode.engine import cpu
from mlxnode.engine.figures import FiguresReader
from mlxnode.engine.loading import LoadedModels
from mlxnode.engine.memory.guard import MemoryGuard
from mlxnode.engine.suspicion import Suspicion
from mlxnode.engine.work import CANNOT_SERVE, Output, RequestKey, Runner
from mlxnode.messages.control import (
    ChildToSupervisor,
    Cleared,
    Connect,
    Connected,
    Drain,
    Ping,
    Pong,
    Ready,
    StepFailed,
    Stop,
    SupervisorToChild,
    Suspects,
)
from mlxnode.messages.data import (
    Abort,
    Embed,
    EngineToWorker,
    Failed,
    Generate,
    Tokens,
    Update,
    WorkerToEngine,
)
from mlxnode.process import garbage
from mlxnode.process.pipe import Pipe
from mlxnode.process.pulse import stop_pulse
from mlxnode.process.step_record import StepRecord

log = logging.getLogger("mlxnode.engine")

# After this many seconds without work, the engine does its idle work: it releases the memory of
# finished requests and writes prefixes to disk.
IDLE_AFTER = 2.0
# At the end, prefixes are written for at most this many seconds. The supervisor waits little
# longer.
SAVE_SECONDS = 2.0
MAX_HELD = 512  # requests in quarantine that wait for others
_HELD = "too many requests wait that were in a step when the engine failed"
_POISONOUS = (
    "The engine failed each time it worked on this request. It is not tried again for an hour "
    "after the last time"
)
# More failed steps in a row are no accident of the data of one request: the process ends, and
# the supervisor starts a new one.
MAX_FAILED_STEPS = 3


@dataclass(frozen=True)
class FromWorker:
    """A message of a worker; None when its pipe has closed."""

    pipe_id: int
    message: WorkerToEngine | None


def release_memory() -> None:
    """Give freed memory back to the system."""
    mx.clear_cache()
    cpu.release_memory()


class Engine:
    """Serves the requests of all workers with the loaded models."""

    def __init__(self, control: Connection, record: StepRecord | None = None):
        """``record`` outlives this process, and tells what it worked on."""
        self._control = control
        self._suspicion = Suspicion(record)
        self._inbox: queue.SimpleQueue[SupervisorToChild | FromWorker] = queue.SimpleQueue()
        self._workers: dict[int, Pipe] = {}  # by pipe_id
        self._models: dict[str, Runner] = {}  # by model id; two ids may share one runner
        self._runners: list[Runner] = []
        self._requests: dict[RequestKey, Runner] = {}
        self._guard: MemoryGuard | None = None  # None: the models are not loaded
        self._figures: FiguresReader | None = None
        self._num_failed_steps = 0
        self._is_stopping = False
        self._idle_since = time.monotonic()
        self._is_tidy = False  # the idle work is done
        self._supervisor = Pipe(
            control,
            SupervisorToChild,
            on_message=self._on_control,
            # Without a supervisor the engine must end, whatever the loop is doing.
            on_close=lambda: os._exit(0),
            name="control",
        )
        self._supervisor.start()

    def serve(self, loaded: LoadedModels, guard: MemoryGuard, figures: FiguresReader) -> None:
        """Take the loaded models, and report that workers can be connected."""
        self._models, self._guard, self._figures = loaded.runners, guard, figures
        self._runners = list(dict.fromkeys(loaded.runners.values()))
        garbage.freeze()
        stop_pulse(self._control)
        self.report(Ready(loaded.failed))

    def report(self, message: ChildToSupervisor) -> None:
        """Send a message to the supervisor."""
        self._supervisor.send(message)

    def run(self) -> None:
        """Serve until the supervisor sends a stop."""
        while not self._is_stopping:
            self._handle_messages()
            if self._has_work:
                self._step()
                self._guard_memory()
                if not self._has_work:
                    self._suspicion.note(())
                    self._idle_since, self._is_tidy = time.monotonic(), False
        deadline = time.monotonic() + SAVE_SECONDS
        while self._do_idle_work() and time.monotonic() < deadline:
            pass

    @property
    def _has_work(self) -> bool:
        return any(runner.has_work for runner in self._runners)

    # --- messages -------------------------------------------------------------------

    def _on_control(self, message: SupervisorToChild) -> None:
        # On the reader thread: the descriptor after a Connect must be read there.
        if isinstance(message, Connect):
            self._connect(message.pipe_id, self._supervisor.receive_fd())
        else:
            self._inbox.put(message)

    def _connect(self, pipe_id: int, fd: int) -> None:
        self._workers[pipe_id] = Pipe(
            Connection(fd),
            WorkerToEngine,
            on_message=lambda message: self._inbox.put(FromWorker(pipe_id, message)),
            on_close=lambda: self._inbox.put(FromWorker(pipe_id, None)),
            name=f"worker-{pipe_id}",
        ).start()
        self._supervisor.send(Connected(pipe_id))

    def _handle_messages(self) -> None:
        """Handle all messages in the inbox. Wait for the first if there is no work."""
        while True:
            try:
                event = self._next_event()
            except queue.Empty:
                return
            match event:
                case FromWorker(pipe_id, Generate() | Embed() as message):
                    self._add(RequestKey(pipe_id, message.uid), message)
                case FromWorker(pipe_id, Abort(uid)):
                    self._abort(RequestKey(pipe_id, uid))
                case FromWorker(pipe_id, None):
                    self._workers.pop(pipe_id)
                    self._abort_all(pipe_id)
                case Ping(sequence):
                    figures = None if self._figures is None else self._figures.read()
                    self._supervisor.send(Pong(sequence, figures))
                case Suspects():
                    self._suspicion.learn(event)
                case Stop() | Drain():
                    self._is_stopping = True
                    return

    def _next_event(self) -> SupervisorToChild | FromWorker:
        """The next message. Without messages and other work, the engine does its idle work.

        Raises:
            queue.Empty: there is no message, but other work.
        """
        if self._has_work:
            return self._inbox.get_nowait()
        while not self._is_tidy:
            remaining = self._idle_since + IDLE_AFTER - time.monotonic()
            try:
                return self._inbox.get(timeout=max(remaining, 0))
            except queue.Empty:
                release_memory()
                self._is_tidy = not self._do_idle_work()
        return self._inbox.get()

    def _do_idle_work(self) -> bool:
        """Let one runner do one task; False if none has one."""
        return any(runner.do_idle_work() for runner in self._runners)

    def _add(self, key: RequestKey, message: Generate | Embed) -> None:
        runner = self._models.get(message.model)
        if runner is None:
            self._send(key.pipe_id, Failed(key.uid, "internal", CANNOT_SERVE))
        elif not self._suspicion.add(key, message):
            self._send(key.pipe_id, Failed(key.uid, "poisonous", _POISONOUS))
        elif self._suspicion.num_held >= MAX_HELD:
            self._suspicion.forget(key)
            self._send(key.pipe_id, Failed(key.uid, "overloaded", _HELD))
        else:
            self._requests[key] = runner
            if not self._suspicion.hold(key, message):
                self._run(key, message)

    def _run(self, key: RequestKey, message: Generate | Embed) -> None:
        runner = self._requests[key]
        self._suspicion.note([*runner.active, key])  # its grammar is compiled already
        if (refusal := runner.add(key, message)) is not None:
            self._end(Output(key.pipe_id, refusal))
            self._send(key.pipe_id, refusal)

    def _abort(self, key: RequestKey) -> None:
        if (runner := self._requests.pop(key, None)) is not None:
            runner.abort(key)
            self._suspicion.forget(key)
            self._run_held()

    def _end(self, output: Output) -> None:
        """Forget a request after its last output."""
        self._requests.pop(output.key, None)
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

    # --- steps ----------------------------------------------------------------------

    def _step(self) -> None:
        """One step of each model that has work, in turn."""
        for runner in self._runners:
            if not runner.has_work:
                continue
            others = [other for other in self._runners if other is not runner]
            self._suspicion.note(runner.active)
            try:
                for outputs in runner.step(others):
                    self._suspicion.note(runner.active)
                    self._emit(outputs)
            except Exception as error:
                self._num_failed_steps += 1
                self._supervisor.send(StepFailed(self._suspicion.noted))
                self._suspicion.note(())  # reported; it need not be blamed for the end as well
                log.exception("a step failed; its requests end with an error")
                for key in runner.fail():
                    failed = Failed(key.uid, "internal", f"the step failed: {error}")
                    self._emit([Output(key.pipe_id, failed)])
                if self._num_failed_steps >= MAX_FAILED_STEPS:
                    raise
            else:
                self._num_failed_steps = 0

    def _guard_memory(self) -> None:
        if self._guard is not None:
            self._emit(self._guard.check(self._runners))

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
        worker = self._workers.get(pipe_id)
        if worker is None or worker.send(message) or worker.is_closed:
            return
        # Thousands of steps behind: that worker hangs, and the supervisor replaces it.
        log.warning("worker pipe %d does not keep up; its requests are aborted", pipe_id)
        self._abort_all(pipe_id)
