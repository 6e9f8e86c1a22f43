"""Stand-ins for the engine and the workers, for tests of the supervisor.

A fake reports each event as a file in a folder, so that a test can wait for the file:
``<name>-<pid>-<event>``. A file ``<name>-<order>`` in the folder makes the fake misbehave.
"""

import errno
import os
import resource
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from mlxnode.config.tables import NodeConfig
from mlxnode.messages.control import (
    Access,
    Connect,
    Connected,
    Drain,
    EngineSilent,
    FailedModels,
    Fatal,
    Ping,
    Pong,
    Progress,
    Ready,
    Reserve,
    Reserved,
    Settle,
    Stop,
    SupervisorToChild,
    Usage,
)
from mlxnode.models.served import ServedModel
from mlxnode.process.pipe import Pipe

TOKEN_LIMIT = 150
RESERVED = 140


def run_engine(
    control: Connection, config: NodeConfig, models: Sequence[Any] = (), *_: object
) -> None:
    folder = Path(config.api.models["folder"].path)
    for model in models if list(folder.glob("engine-dies-*")) else ():
        # At once: a message in the queue of a pipe would be lost.
        control.send_bytes(msgspec.msgpack.encode(Progress("", model.id)))
        if (folder / f"engine-dies-{model.id}").exists():
            os._exit(5)
    Fake("engine", control, config).run()


def run_worker(
    control: Connection, index: int, listener: object, config: NodeConfig, *_: object
) -> None:
    Fake(f"worker{index}", control, config).run()


class Fake:
    """A child that follows the supervisor's protocol and reports the messages it gets."""

    def __init__(self, name: str, control: Connection, config: NodeConfig):
        self._name = name
        self._folder = Path(config.api.models["folder"].path)
        self._ended = threading.Event()
        self._pipes: list[Connection] = []
        self._control = Pipe(
            control, SupervisorToChild, self._handle, on_close=lambda: os._exit(0)
        )

    def run(self) -> None:
        self._control.start()
        if self._is_ordered("fatal"):
            self._control.send(Fatal(f"{self._name} cannot start"))
        elif self._is_ordered("crash"):
            os._exit(3)
        elif not self._is_ordered("load"):
            self._control.send(Ready(self._failed()))
        self._report("started")
        self._report(f"descriptors-{resource.getrlimit(resource.RLIMIT_NOFILE)[0]}")
        self._ended.wait()

    def _handle(self, message: object) -> None:
        match message:
            case Ping(sequence):
                if self._is_ordered("use"):
                    self._use()
                if not self._is_ordered("hang"):
                    self._control.send(Pong(sequence))
            case Connect(pipe_id):
                if self._is_ordered("vanish"):
                    self._vanish(pipe_id)
                self._pipes.append(Connection(self._control.receive_fd()))
                self._control.send(Connected(pipe_id))
                self._report(f"connected-{pipe_id}")
                if self._name == "worker0" and self._is_ordered("reserve"):
                    self._control.send(Reserve(1, "key", "model", RESERVED, 0))
            case Reserved(ticket, refused):
                self._report(f"reserved-{ticket}-{refused}")
                if ticket == 1:  # the second reservation stays open
                    self._control.send(Settle(1, 10))
                    self._control.send(Reserve(2, "key", "model", RESERVED, 0))
            case EngineSilent(seconds):
                self._report("heard" if seconds is None else "silent")
            case FailedModels(reasons):
                self._report(f"told-{','.join(reasons) or 'none'}")
            case Access(keys=keys):
                self._report(f"access-{','.join(key.id for key in keys) or 'none'}")
            case Drain():
                self._report("drained")
                if self._is_ordered("use"):
                    self._use()
                self._control.flush(10)
                if not self._is_ordered("linger"):
                    self._ended.set()
            case Stop():
                self._report("stopped")
                self._ended.set()

    def _failed(self) -> dict[str, str]:
        """The models that this child cannot serve: those of files ``<name>-fails-<model>``."""
        found = self._folder.glob(f"{self._name}-fails-*")
        return {file.name.split("-fails-")[1]: f"{self._name} says so" for file in found}

    def _use(self) -> None:
        """Report the usage of as many requests as the order says, once."""
        order = self._folder / f"{self._name}-use"
        for _ in range(int(order.read_text())):
            self._control.send(Usage("alice", "model", 10, 4, 3))
        self._control.flush(10)
        order.unlink()  # who sees that may end this process

    def _vanish(self, pipe_id: int) -> None:
        """Exit without an answer, after the engine has its end of the pipe."""
        (self._folder / f"{self._name}-vanish").unlink()
        while not list(self._folder.glob(f"engine-*-connected-{pipe_id}")):
            time.sleep(0.01)
        os._exit(4)

    def _is_ordered(self, order: str) -> bool:
        return (self._folder / f"{self._name}-{order}").exists()

    def _report(self, event: str) -> None:
        (self._folder / f"{self._name}-{os.getpid()}-{event}").touch()


def _refuse_one_pipe() -> None:
    """The first data pipe finds no file descriptor."""
    from mlxnode.process import wiring

    real = wiring.make_pipe

    def refuse(duplex: bool) -> None:
        wiring.make_pipe = real
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    wiring.make_pipe = refuse


def _served(id: str, folder: Path) -> ServedModel:
    return ServedModel(id, "chat", folder, folder, "llama", 512, None, None, 1, 1)


def supervise(folder: Path, **server: Any) -> int:
    """Run a supervisor with fake children; the child process of a test runs this."""
    import logging
    import socket

    from mlxnode.config.tables import ApiConfig, ModelConfig, ServerConfig
    from mlxnode.process.supervisor import Supervisor

    logging.basicConfig(level="INFO", format="%(message)s")
    if (folder / "supervisor-short").exists():
        _refuse_one_pipe()
    api = ApiConfig(
        max_tokens_per_minute=TOKEN_LIMIT,
        models={
            "folder": ModelConfig(path=str(folder), type="chat"),
            "other": ModelConfig(path=str(folder), type="embedding"),
        },
    )
    listener = socket.create_server(("127.0.0.1", 0))
    started = time.monotonic()

    def on_ready(failed: dict[str, str]) -> None:
        import sys

        loaded = sorted({"mlx", "sanic", "numpy"} & set(sys.modules))
        (folder / f"ready-{','.join(loaded) or 'light'}").touch()
        print(f"ready in {time.monotonic() - started:.1f} s", flush=True)

    return Supervisor(
        NodeConfig(api=api, server=ServerConfig(**server)),
        [_served(id, folder) for id in api.models],
        Access(keys=[]),
        listener,
        on_ready=on_ready,
        engine_entry="support.fakes:run_engine",
        worker_entry="support.fakes:run_worker",
    ).run()
