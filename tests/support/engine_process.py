"""A real engine process, with the test in the place of supervisor and workers."""

import multiprocessing
import queue
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from mlxnode.config.tables import NodeConfig
from mlxnode.engine.entry import run_engine
from mlxnode.messages.control import ChildToSupervisor, Connect, Connected, Fatal, Ready, Stop
from mlxnode.messages.data import (
    EngineToWorker,
    Generate,
    ModelStates,
    Sampling,
    Tokens,
    Update,
)
from mlxnode.messages.message import Message
from mlxnode.models.served import ServedModel
from mlxnode.process.pipe import Pipe
from mlxnode.process.step_record import StepRecord

TIMEOUT = 60


class Mailbox:
    """One end of a pipe, read by the test. ``states`` has what an engine told, in order."""

    def __init__(self, connection: Connection, receives: type):
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.states: list[ModelStates] = []
        self.pipe = Pipe(
            connection, receives, self._inbox.put, on_close=lambda: self._inbox.put(None)
        ).start()

    def send(self, message: Message) -> None:
        assert self.pipe.send(message)

    def receive(self) -> Message | None:
        """The next message, but for states; None when the peer has gone."""
        while isinstance(message := self._inbox.get(timeout=TIMEOUT), ModelStates):
            self.states.append(message)
        return message

    def wait_for_state(self, model: str, state: str) -> None:
        """Read until the engine tells this state of the model; nothing else may come."""
        while not self.states or self.states[-1].states.get(model) != state:
            message = self._inbox.get(timeout=TIMEOUT)
            assert isinstance(message, ModelStates), message
            self.states.append(message)

    def updates(self, *uids: int) -> dict[int, list[Update]]:
        """What comes for ``uids``, until each has its last update."""
        found: dict[int, list[Update]] = {uid: [] for uid in uids}
        while not all(found[uid] and found[uid][-1].finish for uid in uids):
            message = self.receive()
            assert isinstance(message, Tokens), message
            for update in message.updates:
                found.setdefault(update.uid, []).append(update)
        return found

    def tokens(self, *uids: int) -> dict[int, list[int]]:
        return {
            uid: [token.id for update in updates for token in update.tokens]
            for uid, updates in self.updates(*uids).items()
        }


class EngineProcess:
    """An engine started as the supervisor starts it."""

    def __init__(
        self,
        config: NodeConfig,
        models: list[ServedModel],
        target: Callable[..., None] = run_engine,
        record: StepRecord | None = None,
    ):
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        self.process = context.Process(target=target, args=(theirs, config, models, record))
        self.process.start()
        theirs.close()
        self.control = Mailbox(ours, ChildToSupervisor)
        self._generation = 0

    def wait_ready(self) -> None:
        while not isinstance(message := self.control.receive(), Ready):
            assert message is not None and not isinstance(message, Fatal), message

    def connect(self) -> Mailbox:
        """A worker's end of a new data pipe."""
        self._generation += 1
        ours, theirs = multiprocessing.Pipe(duplex=True)
        self.control.pipe.send(Connect(self._generation), theirs.fileno())
        assert self.control.receive() == Connected(self._generation)
        theirs.close()
        return Mailbox(ours, EngineToWorker)

    def stop(self) -> None:
        self.control.pipe.send(Stop())
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def serve_tiny(folder: Path, id: str = "tiny", **changes) -> ServedModel:
    facts = {
        "id": id,
        "type": "chat",
        "folder": folder,
        "weights": folder,
        "architecture": "llama",
        "context_length": 512,
        "dimensions": None,
        "default_temperature": None,
        "size_bytes": 1,
        "created": 0,
    }
    return ServedModel(**(facts | changes))


def generate(uid: int, prompt: int = 10, max_tokens: int = 12, **changes) -> Generate:
    """A greedy request of the tiny model; each ``uid`` has a prompt of its own."""
    ids = [3 + (uid * 7 + i * i) % 250 for i in range(prompt)]
    fields = {"model": "tiny", "stop_ids": [], "sampling": Sampling(temperature=0.0)}
    return Generate(uid=uid, prompt=ids, max_tokens=max_tokens, **(fields | changes))
