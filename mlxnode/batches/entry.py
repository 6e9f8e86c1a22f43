"""The process that runs the batches: its control pipe, its start and end."""

import asyncio
import contextlib
import logging
import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from mlxnode.batches.database import RunnerLock
from mlxnode.batches.job import Limits
from mlxnode.batches.runner import Runner
from mlxnode.batches.sending import LineSender
from mlxnode.batches.store import BatchStore
from mlxnode.config.tables import NodeConfig
from mlxnode.messages.control import Busy, Ping, Pong, Ready, Stop, SupervisorToChild, Wake
from mlxnode.process.batch_process import batches_folder
from mlxnode.process.inner_socket import max_in_flight
from mlxnode.process.logging import set_up_logging
from mlxnode.process.pipe import Pipe
from mlxnode.process.pulse import stop_pulse
from mlxnode.process.signals import ignore_signals

log = logging.getLogger("mlxnode.batches")

_NICE = 10  # the engine and the workers come first
_EXIT_TIMEOUT = 2.0  # seconds from the order to stop until the process exits in any case
_LOCK_INTERVAL = 2.0  # seconds between two tries to run batches that another node runs
_FLUSH_TIMEOUT = 0.5  # seconds for what is still to be written


def run_batches(control: Connection, config: NodeConfig, socket_path: Path) -> None:
    """Run batches until the supervisor orders a stop, or is gone.

    ``socket_path`` is the inner socket of the workers.
    """
    ignore_signals()
    set_up_logging(config.server.log_level)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs each request
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    asyncio.run(_run(control, config, socket_path))


async def _run(control: Connection, config: NodeConfig, socket_path: Path) -> None:
    await _Process(control, config, socket_path).run()


class _Process:
    def __init__(self, control: Connection, config: NodeConfig, socket_path: Path):
        self._connection = control
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._pipe = Pipe(
            control,
            SupervisorToChild,
            self._on_message,
            on_close=lambda: os._exit(0),  # what is not on the disk is done again
            name="control",
        )
        batches, number = config.server.batches, max_in_flight(config.engine)
        folder = batches_folder(batches)
        self._lock = RunnerLock(folder)
        self._store = BatchStore(folder, keep_days=batches.keep_days)
        self._sender = LineSender(socket_path, number)
        self._runner = Runner(
            self._store,
            self._sender,
            Limits(batches.max_requests, config.server.max_body_bytes),
            number,
            lambda busy: self._pipe.send(Busy(busy)),
        )

    async def run(self) -> None:
        self._pipe.start()
        stop_pulse(self._connection)
        self._pipe.send(Ready({}))
        running = asyncio.create_task(self._run_alone())
        stopping = asyncio.create_task(self._stopped.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await self._sender.close()
        self._store.close()
        self._pipe.flush(_FLUSH_TIMEOUT)

    async def _run_alone(self) -> None:
        """Run the batches once no other node runs those of this folder."""
        is_told = False
        while not self._lock.take():
            if not is_told:
                log.info("another node runs the batches of this folder: waiting")
                is_told = True
            await asyncio.sleep(_LOCK_INTERVAL)
        await self._runner.run()

    def _on_message(self, message: SupervisorToChild) -> None:
        """Called on the reader thread of the pipe."""
        if isinstance(message, Stop):
            _exit_soon()
        self._loop.call_soon_threadsafe(self._obey, message)

    def _obey(self, message: SupervisorToChild) -> None:
        match message:
            case Ping(sequence):
                self._pipe.send(Pong(sequence))
            case Wake():
                self._runner.wake()
            case Stop():
                self._stopped.set()


def _exit_soon() -> None:
    """End the process even if the event loop hangs."""
    timer = threading.Timer(_EXIT_TIMEOUT, os._exit, [0])
    timer.daemon = True
    timer.start()
