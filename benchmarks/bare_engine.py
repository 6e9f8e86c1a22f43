"""The engine without HTTP: its process, asked through the pipe that a worker would have."""

import contextlib
import multiprocessing
import queue
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlxnode.config.tables import ModelConfig, NodeConfig
from mlxnode.engine.entry import run_engine
from mlxnode.messages import (
    ChildToSupervisor,
    Connect,
    Connected,
    EngineToWorker,
    Generate,
    Message,
    Ready,
    Sampling,
    Stop,
    Tokens,
)
from mlxnode.models.resolve import resolve_models
from mlxnode.process.pipe import Pipe


class EngineAlone:
    """A started engine, and the worker's end of its pipe."""

    def __init__(self, pipe: Pipe, inbox: "queue.SimpleQueue[Message]"):
        self._pipe, self._inbox = pipe, inbox
        self._num_asked = 0

    def throughput(
        self, prompts: Sequence[list[int]], max_tokens: int, sampling: Sequence[Sampling]
    ) -> float:
        """Tokens a second of as many answers at once."""
        started_at, tokens, missing = time.perf_counter(), 0, len(prompts)
        for ids, parameters in zip(prompts, sampling, strict=True):
            self._num_asked += 1
            message = Generate(
                uid=self._num_asked,
                model="bench",
                prompt=ids,
                max_tokens=max_tokens,
                stop_ids=[],
                sampling=parameters,
            )
            self._pipe.send(message)
        while missing:
            message = self._inbox.get(timeout=300)
            if not isinstance(message, Tokens):
                raise RuntimeError(f"the engine failed: {message}")
            tokens += sum(len(update.tokens) for update in message.updates)
            missing -= sum(update.finish is not None for update in message.updates)
        return tokens / (time.perf_counter() - started_at)


@contextlib.contextmanager
def engine_alone(folder: Path) -> Iterator[EngineAlone]:
    """Start an engine on a model, and end it with the block."""
    config = NodeConfig(api={"models": {"bench": ModelConfig(path=str(folder), type="chat")}})
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    arguments = (theirs, config, resolve_models(config, print))
    process = spawn.Process(target=run_engine, args=arguments)
    process.start()
    theirs.close()
    said: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
    control = Pipe(ours, ChildToSupervisor, said.put, lambda: said.put(None)).start()
    try:
        _wait_for(said, Ready())
        ours, theirs = spawn.Pipe()
        control.send(Connect(1), theirs.fileno())
        _wait_for(said, Connected(1))
        theirs.close()
        inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        pipe = Pipe(ours, EngineToWorker, inbox.put, lambda: inbox.put(None)).start()
        yield EngineAlone(pipe, inbox)
    finally:
        control.send(Stop())
        process.join(10)
        process.kill()


def _wait_for(said: "queue.SimpleQueue[Message | None]", wanted: Message) -> None:
    while (message := said.get(timeout=300)) != wanted:
        if message is None:
            raise RuntimeError("the engine did not start")
