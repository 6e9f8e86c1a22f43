"""The engine of a worker under test: each test scripts what it answers."""

import queue
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import numpy as np
from tokenizers import Tokenizer

from mlxnode.figures import ModelState
from mlxnode.messages.data import (
    Abort,
    Done,
    Embed,
    Embedded,
    Generate,
    Load,
    ModelStates,
    Token,
    Tokens,
    Unload,
    Update,
    WorkerToEngine,
)
from mlxnode.process.pipe import Pipe

WAIT = 60.0  # seconds; only a failing test waits that long


class FakeEngine:
    """The engine's end of the data pipe. Answers ``answer``, a byte a token."""

    def __init__(self, tokenizer: Tokenizer, model_ids: Sequence[str] = ()):
        self._tokenizer = tokenizer
        self._model_ids = model_ids
        self._pipe: Pipe | None = None
        self.states: dict[str, ModelState] = {}
        self._last_uid = 0
        self.reset()

    def reset(self) -> None:
        self.answer = "Hello!"
        self.is_silent = False
        self.step = 1  # tokens in an update
        self.received: queue.Queue[WorkerToEngine] = queue.Queue()
        self.on_generate: Any = self.say
        self.on_order: Any = self.obey
        self._first_uid = self._last_uid + 1  # what is older belongs to an earlier test

    def connect(self, connection: Connection) -> None:
        self._pipe = Pipe(connection, WorkerToEngine, self._on_message, lambda: None).start()
        self.states = dict.fromkeys(self._model_ids, "loaded")
        self.tell()

    def tell(self, pinned: Sequence[str] = (), **states: ModelState) -> None:
        """Tell the states of all models; those of ``states`` have changed."""
        self.states |= states
        self.send(ModelStates(dict(self.states), list(pinned)))

    def disconnect(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def next(self, kind: type) -> Any:
        """Wait for the next message of ``kind``; others before it are dropped."""
        while True:
            message = self.received.get(timeout=WAIT)
            if isinstance(message, kind):
                return message

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def text(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def send(self, message: msgspec.Struct) -> None:
        assert self._pipe is not None
        self._pipe.send(message)

    def update(self, uid: int, text: str | list[int], finish: str | None = None) -> None:
        ids = self.ids(text) if isinstance(text, str) else text
        tokens = [Token(id, -1.0) for id in ids]
        self.send(Tokens([Update(uid=uid, tokens=tokens, finish=finish)]))

    def say(self, message: Generate) -> None:
        """All of ``answer``, one step after the other, within the request's max_tokens."""
        ids = self.ids(self.answer)[: message.max_tokens]
        for at in range(0, len(ids), self.step):
            self.update(message.uid, ids[at : at + self.step])
        is_cut = len(ids) == message.max_tokens
        self.update(message.uid, [], "length" if is_cut else "stop")

    def _on_message(self, message: WorkerToEngine) -> None:
        if message.uid < self._first_uid:
            return
        self._last_uid = max(self._last_uid, message.uid)
        self.received.put(message)
        if self.is_silent or isinstance(message, Abort):
            return
        if isinstance(message, Generate):
            self.on_generate(message)
        elif isinstance(message, Embed):
            self.embed(message)
        else:
            self.on_order(message)

    def obey(self, message: Load | Unload) -> None:
        """Load or unload at once, and tell it."""
        is_load = isinstance(message, Load)
        pinned = [message.model] if isinstance(message, Load) and message.pin else []
        self.send(Done(message.uid))
        self.tell(pinned, **{message.model: "loaded" if is_load else "unloaded"})

    def embed(self, message: Embed) -> None:
        """Vectors that tell the inputs apart: their length, then their token ids."""
        dimensions = message.dimensions or 8
        vectors = np.zeros((len(message.inputs), dimensions), "<f4")
        for row, ids in zip(vectors, message.inputs, strict=True):
            row[:] = ([len(ids), *ids] + [0] * dimensions)[:dimensions]
        self.send(Embedded(message.uid, dimensions, vectors.tobytes()))
