"""``mlxnode engine``: a small process, without mlx, that is a rank whenever rank 0 is there.

mlx.distributed can be entered once in a process, so each session with a rank 0 has a process of
its own (``session``).
"""

import logging
import multiprocessing
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from mlxnode.config.tables import LogLevel
from mlxnode.engine.ranks.handshake import AuthenticationError, connect
from mlxnode.engine.ranks.session import READY, REFUSED, run_session
from mlxnode.errors import NodeError
from mlxnode.process.logging import set_up_logging

log = logging.getLogger("mlxnode.rank")

RETRY_SECONDS = 0.5
START_SILENCE = 90.0  # seconds without a sign of life of a process that starts
SILENCE = 5.0  # of one that is ready; rank 0 has given it up long before

_spawn = multiprocessing.get_context("spawn")


def run(
    host: str,
    port: int,
    key: str,
    rank: int | None,
    *,
    once: bool = False,
    timeout: float | None = None,
    log_level: LogLevel = "info",
) -> int:
    """Be ``rank`` of the engine at ``host``:``port``; returns the exit code.

    ``once``: after one session, or ``timeout`` seconds without rank 0, that is all.

    Raises:
        NodeError: rank 0 has another key, or refuses this rank.
    """
    set_up_logging(log_level)
    has_told, began = False, time.monotonic()
    while True:
        try:
            connection = connect(host, port, key.encode())
        except AuthenticationError as error:
            raise NodeError(f"rank 0 at {host} port {port} has another key") from error
        except (OSError, EOFError, AssertionError) as error:
            if timeout is not None and time.monotonic() - began > timeout:
                raise NodeError(f"rank 0 at {host} port {port}: {_reason(error)}") from error
            if not has_told:
                log.info("waiting for rank 0 at %s port %d: %s", host, port, _reason(error))
            has_told = True
            threading.Event().wait(RETRY_SECONDS)
            continue
        code = _serve(connection, rank, log_level)
        if code == REFUSED:
            raise NodeError("rank 0 refuses this process; the log says why")
        if once:
            return 0 if code == 0 else 1
        log.info("the session with rank 0 has ended; waiting for the next one")
        has_told, began = False, time.monotonic()
        threading.Event().wait(RETRY_SECONDS)


def _serve(connection: Connection, rank: int | None, log_level: LogLevel) -> int | None:
    """Run one session in a process of its own; returns its exit code."""
    ours, theirs = _spawn.Pipe(duplex=True)
    process = _spawn.Process(
        target=run_session, args=(connection, theirs, rank, log_level), name="rank"
    )
    try:
        process.start()
        # Copies here would hide the end of the process from rank 0 and from this one.
        connection.close()
        theirs.close()
        _watch(process, ours)
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
        ours.close()
        connection.close()
    return process.exitcode


def _watch(process: BaseProcess, pipe: Connection) -> None:
    """Return when the process ends, or is silent: it is stopped, or stuck."""
    silence = START_SILENCE
    try:
        while pipe.poll(silence) or pipe.poll(RETRY_SECONDS):  # this process may have slept
            if pipe.recv_bytes() == READY:
                silence = SILENCE
        log.warning("the process of this rank (pid %d) is silent: ending it", process.pid)
    except (EOFError, OSError):
        process.join(SILENCE)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
