"""The engine's loop: receive, step, send.

One thread does all MLX work (MLX's streams belong to a thread). Messages come in through one
inbox, filled by the pipes' reader threads; what a step brings goes out as one message a
worker.
"""

import logging
import os
import queue
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing.connection import Connection

import mlx.core as mx

from mlxnode.engine import cpu
from mlxnode.engine.decode.pending_step import Output
from mlxnode.engine.decode.request import Request, RequestKey
from mlxnode.engine.decode.runner import Runner
from mlxnode.engine.embedding.runner import EmbeddingRunner
from mlxnode.messages import (
    Abort,
    ChildToSupervisor,
    Connect,
    Connected,
    Drain,
    Embed,
    EngineToWorker,
    Failed,
    Generate,
    Ping,
    Pong,
    Ready,
    Stop,
    SupervisorToChild,
    Tokens,
    Update,
    WorkerToEngine,
)
from mlxnode.process import garbage
from mlxnode.process.pipe import Pipe

log = logging.getLogger("mlxnode.engine")

# When nothing was to do for so many seconds, memory of finished work is given back and known
# texts are written to disk.
TIDY_AFTER = 2.0
# At the end, texts are written for as long, and the supervisor waits little longer.
SAVE_WITHIN = 2.0
# So many steps that raise, one after the other, are no accident of one request's data: the
# process ends, and the supervisor starts a new one.
MAX_FAILED_STEPS = 3


@dataclass(frozen=True)
class FromWorker:
    """A message of a worker; None when its pipe has closed."""

    pipe: int
    message: WorkerToEngine | None


class Engine:
    """Serves the requests of every worker with the models it was given."""

    def __init__(self, control: Connection):
        self._inbox: queue.SimpleQueue[SupervisorToChild | FromWorker] = queue.SimpleQueue()
        self._workers: dict[int, Pipe] = {}
        self._runners: dict[str, Runner] = {}
        self._embedders: dict[str, EmbeddingRunner] = {}
        self._requests: dict[RequestKey, tuple[Runner, Request]] = {}
        self._embeds: dict[RequestKey, EmbeddingRunner] = {}
        self._num_failed_steps = 0
        self._is_stopping = False
        self._idle_since = time.monotonic()
        self._is_tidy = False
        self._supervisor = Pipe(
            control,
            SupervisorToChild,
            on_message=self._on_control,
            # The supervisor is gone: so is the reason to be here, whatever the loop is doing.
            on_close=lambda: os._exit(0),
            name="control",
        )
        self._supervisor.start()

    def serve(self, runners: dict[str, Runner], embedders: dict[str, EmbeddingRunner]) -> None:
        """Take the loaded models, by id, and say that workers can be connected."""
        self._runners, self._embedders = runners, embedders
        garbage.freeze()
        self.report(Ready())

    def report(self, message: ChildToSupervisor) -> None:
        """Tell the supervisor."""
        self._supervisor.send(message)

    def run(self) -> None:
        """Serve until told to stop."""
        while not self._is_stopping:
            self._handle_messages()
            if self._has_work:
                self._step()
                if not self._has_work:
                    self._idle_since, self._is_tidy = time.monotonic(), False
        deadline = time.monotonic() + SAVE_WITHIN
        while self._save_next() and time.monotonic() < deadline:
            pass

    @property
    def _has_work(self) -> bool:
        return any(runner.has_work for runner in self._all_runners)

    @property
    def _all_runners(self) -> list[Runner | EmbeddingRunner]:
        # Two ids may share one runner.
        return list(dict.fromkeys([*self._runners.values(), *self._embedders.values()]))

    @property
    def _generators(self) -> list[Runner]:
        return list(dict.fromkeys(self._runners.values()))

    # --- messages -------------------------------------------------------------------

    def _on_control(self, message: SupervisorToChild) -> None:
        # On the reader thread, where the descriptor after a Connect has to be read.
        if isinstance(message, Connect):
            self._connect(message.pipe_id, self._supervisor.receive_fd())
        else:
            self._inbox.put(message)

    def _connect(self, pipe: int, fd: int) -> None:
        self._workers[pipe] = Pipe(
            Connection(fd),
            WorkerToEngine,
            on_message=lambda message: self._inbox.put(FromWorker(pipe, message)),
            on_close=lambda: self._inbox.put(FromWorker(pipe, None)),
            name=f"worker-{pipe}",
        ).start()
        self._supervisor.send(Connected(pipe))

    def _handle_messages(self) -> None:
        """Handle all there is; wait for the first when there is nothing else to do."""
        while True:
            try:
                event = self._next_event()
            except queue.Empty:
                return
            match event:
                case FromWorker(pipe, Generate() as message):
                    self._add(pipe, message)
                case FromWorker(pipe, Embed() as message):
                    self._add_embedding(pipe, message)
                case FromWorker(pipe, Abort(uid)):
                    self._abort((pipe, uid))
                case FromWorker(pipe, None):
                    self._forget_worker(pipe)
                case Ping(sequence):
                    self._supervisor.send(Pong(sequence))
                case Stop() | Drain():
                    self._is_stopping = True
                    return

    def _next_event(self) -> SupervisorToChild | FromWorker:
        """The next message; while there is none and nothing else to do, the engine tidies up.

        Raises:
            queue.Empty: there is none, but work.
        """
        if self._has_work:
            return self._inbox.get_nowait()
        while not self._is_tidy:
            wait = self._idle_since + TIDY_AFTER - time.monotonic()
            try:
                return self._inbox.get(timeout=max(wait, 0))
            except queue.Empty:
                mx.clear_cache()
                cpu.release_memory()
                self._is_tidy = not self._save_next()
        return self._inbox.get()

    def _save_next(self) -> bool:
        """Write one text to disk; False when there is none left."""
        for runner in self._generators:
            if runner.has_unsaved:
                runner.save_next()
                return True
        return False

    def _add(self, pipe: int, message: Generate) -> None:
        runner = self._runners.get(message.model)
        if runner is None or not message.prompt or message.max_tokens < 1:
            self._fail((pipe, message.uid), "internal", "the engine cannot serve this request")
            return
        request = Request.of(pipe, message, random_seed=random.getrandbits(64))
        refusal = runner.add(request)
        if refusal is not None:
            self._fail(request.key, *refusal)
        else:
            self._requests[request.key] = (runner, request)

    def _add_embedding(self, pipe: int, message: Embed) -> None:
        key = (pipe, message.uid)
        embedder = self._embedders.get(message.model)
        if embedder is None:
            self._fail(key, "internal", "the engine cannot serve this request")
            return
        refusal = embedder.add(key, message)
        if refusal is not None:
            self._fail(key, *refusal)
        else:
            self._embeds[key] = embedder

    def _abort(self, key: RequestKey) -> None:
        if key in self._requests:
            runner, request = self._requests.pop(key)
            runner.abort(request)
        elif key in self._embeds:
            self._embeds.pop(key).abort(key)

    def _forget_worker(self, pipe: int) -> None:
        self._workers.pop(pipe)
        self._abort_all(pipe)

    def _abort_all(self, pipe: int) -> None:
        for key in [key for key in (*self._requests, *self._embeds) if key[0] == pipe]:
            self._abort(key)

    # --- work -----------------------------------------------------------------------

    def _step(self) -> None:
        """One step of every model that has work, in turn."""
        for runner in self._all_runners:
            if not runner.has_work:
                continue
            try:
                if isinstance(runner, Runner):
                    self._step_runner(runner)
                else:
                    self._step_embedder(runner)
            except Exception as error:
                self._num_failed_steps += 1
                log.exception("a step failed; its requests end with an error")
                self._fail_runner(runner, f"the step failed: {error}")
                if self._num_failed_steps >= MAX_FAILED_STEPS:
                    raise
            else:
                self._num_failed_steps = 0

    def _step_runner(self, runner: Runner) -> None:
        if runner.has_prompts:
            self._tell(runner.settle())  # tokens do not wait for the prompts of others
            runner.prefill()
        self._tell(runner.begin())
        self._tell(runner.decode())
        runner.draw()
        if any(embedder.has_work for embedder in self._embedders.values()):
            self._tell(runner.settle())  # nor for the texts that are embedded next

    def _tell(self, outputs: list[Output]) -> None:
        """Send what a step brought, in one message a worker."""
        updates: dict[int, list[Update]] = defaultdict(list)
        for output in outputs:
            request = output.request
            pipe, uid = request.key
            if output.error is not None:
                self._requests.pop(request.key, None)
                self._fail(request.key, "internal", output.error)
                continue
            if output.finish is not None:
                self._requests.pop(request.key, None)
            updates[pipe].append(_update(uid, output))
        for pipe, batch in updates.items():
            self._send(pipe, Tokens(batch))

    def _step_embedder(self, embedder: EmbeddingRunner) -> None:
        steps = [runner.decode_seconds for runner in self._generators]
        longest = max((seconds for seconds in steps if seconds is not None), default=None)
        for key, message in embedder.step(decode_seconds=longest):
            self._embeds.pop(key, None)
            self._send(key[0], message)

    def _fail_runner(self, runner: Runner | EmbeddingRunner, reason: str) -> None:
        for failed in runner.fail():
            key = failed.key if isinstance(failed, Request) else failed
            self._requests.pop(key, None)
            self._embeds.pop(key, None)
            self._fail(key, "internal", reason)

    # --- answers --------------------------------------------------------------------

    def _fail(self, key: RequestKey, reason: str, text: str) -> None:
        pipe, uid = key
        self._send(pipe, Failed(uid, reason, text))

    def _send(self, pipe: int, message: EngineToWorker) -> None:
        worker = self._workers.get(pipe)
        if worker is None or worker.send(message) or worker.is_closed:
            return
        # Thousands of steps behind: that worker hangs, and the supervisor replaces it.
        log.warning("worker pipe %d does not keep up; its requests are aborted", pipe)
        self._abort_all(pipe)


def _update(uid: int, output: Output) -> Update:
    request = output.request
    scores, request.scores = request.scores, None  # told once
    return Update(
        uid=uid,
        tokens=output.tokens,
        finish=output.finish,
        prompt=scores,
        num_cached=request.num_cached,
    )
