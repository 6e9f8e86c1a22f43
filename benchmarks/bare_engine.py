"""The engine process without HTTP: requests go through the pipe of a worker."""

import contextlib
import multiprocessing
import queue
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlxnode.config.tables import ApiConfig, ModelConfig, NodeConfig
from mlxnode.engine.entry import run_engine
from mlxnode.messages.control import ChildToSupervisor, Connect, Connected, Ready, Stop
from mlxnode.messages.data import EngineToWorker, Generate, Sampling, Tokens
from mlxnode.models.resolve import resolve_models
from mlxnode.process.pipe import Pipe

_MODEL = "bench"
_TIMEOUT = 300  # seconds to wait for a message
_PIPE_ID = 1

# The messages of a pipe; None when the pipe is closed.
_ControlInbox = queue.SimpleQueue[ChildToSupervisor | None]
_DataInbox = queue.SimpleQueue[EngineToWorker | None]


class BareEngine:
    """A started engine, and the worker's end of its data pipe."""

    def __init__(self, pipe: Pipe, inbox: _DataInbox):
        self._pipe, self._inbox = pipe, inbox
        self._num_requests = 0

    def throughput(
        self, prompts: Sequence[list[int]], max_tokens: int, sampling: Sequence[Sampling]
    ) -> float:
        """Tokens per second of all prompts together, sent at once.

        Raises:
            RuntimeError: the engine failed.
        """
        started_at, num_tokens, num_running = time.perf_counter(), 0, len(prompts)
        for prompt, parameters in zip(prompts, sampling, strict=True):
            self._num_requests += 1
            message = Generate(
                uid=self._num_requests,
                model=_MODEL,
                prompt=prompt,
                max_tokens=max_tokens,
                stop_ids=[],
                sampling=parameters,
            )
            self._pipe.send(message)
        while num_running:
            message = self._inbox.get(timeout=_TIMEOUT)
            if not isinstance(message, Tokens):
                raise RuntimeError(f"the engine failed: {message}")
            num_tokens += sum(len(update.tokens) for update in message.updates)
            num_running -= sum(update.finish is not None for update in message.updates)
        return num_tokens / (time.perf_counter() - started_at)


@contextlib.contextmanager
def start_engine(folder: Path) -> Iterator[BareEngine]:
    """Run an engine until the block ends, with the model in ``folder``.

    Raises:
        RuntimeError: the engine did not start.
    """
    model = ModelConfig(path=str(folder), type="chat")
    config = NodeConfig(api=ApiConfig(models={_MODEL: model}))
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    arguments = (theirs, config, resolve_models(config, print))
    process = spawn.Process(target=run_engine, args=arguments)
    process.start()
    theirs.close()
    control_inbox: _ControlInbox = queue.SimpleQueue()
    control = Pipe(
        ours, ChildToSupervisor, control_inbox.put, lambda: control_inbox.put(None)
    ).start()
    try:
        _wait_for(control_inbox, Ready())
        ours, theirs = spawn.Pipe()
        control.send(Connect(_PIPE_ID), theirs.fileno())
        _wait_for(control_inbox, Connected(_PIPE_ID))
        theirs.close()
        inbox: _DataInbox = queue.SimpleQueue()
        pipe = Pipe(ours, EngineToWorker, inbox.put, lambda: inbox.put(None)).start()
        yield BareEngine(pipe, inbox)
    finally:
        control.send(Stop())
        process.join(10)
        process.kill()


def _wait_for(inbox: _ControlInbox, expected: ChildToSupervisor) -> None:
    while (message := inbox.get(timeout=_TIMEOUT)) != expected:
        if message is None:
            raise RuntimeError("the engine did not start")
