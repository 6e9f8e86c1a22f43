"""The process of a rank: it enters the group of one rank 0, and ends with it."""

import contextlib
import logging
import os
import socket
import threading
import time
from multiprocessing.connection import Connection

from mlxnode.config.tables import EngineConfig, LogLevel
from mlxnode.engine import cpu
from mlxnode.engine.ranks import group as groups
from mlxnode.engine.ranks.handshake import bound_silence
from mlxnode.engine.ranks.link import BEAT_INTERVAL, MAX_MESSAGE_BYTES, Link, LinkLost
from mlxnode.messages.message import encode
from mlxnode.messages.ranks import Goodbye, Hello, Refused, Welcome, to_rank
from mlxnode.process.logging import set_up_logging
from mlxnode.process.signals import ignore_signals

log = logging.getLogger("mlxnode.rank")

REFUSED = 3  # the exit code of a process that rank 0 does not take
ALIVE, READY = b"alive", b"ready"  # to the outer process


def run_session(
    connection: Connection, outer: Connection, rank: int | None, log_level: LogLevel
) -> None:
    """Be a rank of the engine at the other end of ``connection`` until that ends.

    ``outer`` is a pipe to the process that started this one: signs of life go there, and its
    end is the end of this process.
    """
    ignore_signals()
    set_up_logging(log_level)
    name = f"rank {rank} ({socket.gethostname()})"  # rank 0 logs the lines of all of them
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(f"{name} %(levelname)s %(name)s: %(message)s"))
    pulse = _Pulse(outer)
    os.environ.setdefault("MLX_ENABLE_TF32", "0")  # as in ``engine/entry.py``
    cpu.prepare_process()
    from mlxnode.engine.memory.device import limit_memory, memory_limit  # imports mlx
    from mlxnode.engine.memory.guard import MemoryMeter
    from mlxnode.engine.ranks.follower import Follower
    from mlxnode.engine.ranks.strain import RankMeter

    meter = MemoryMeter()
    welcome = _enter(connection, rank)
    settings = EngineConfig.model_validate(welcome.settings)
    # Before mlx is used: some of its variables count only then.
    os.environ.update(welcome.environment)
    limit_memory(settings)
    group = groups.join(welcome.rank, welcome.backend, welcome.environment, welcome.files)
    beat = RankMeter(meter, memory_limit(settings)).beat
    link = Link(connection, to_rank, _end, beat=beat, silence=welcome.silence).start()
    log.info("rank %d of %d is ready", welcome.rank, welcome.size)
    pulse.text = READY
    try:
        Follower(link, settings, group).run()
    except LinkLost:
        pass  # ``_end`` is about to end this process
    except Exception as error:
        log.exception("rank %d cannot go on", welcome.rank)
        link.close(Goodbye(f"{type(error).__name__}: {error}"))
        os._exit(1)
    os._exit(0)  # threads inside mlx may wait for ranks that have ended


def _enter(connection: Connection, rank: int | None) -> Welcome:
    """Say who this is; the answer of rank 0, which comes once all ranks are there."""
    bound_silence(connection, 0)
    try:
        hello = Hello(rank, socket.gethostname(), groups.versions())
        connection.send_bytes(encode(hello))
        answer = to_rank.decode(connection.recv_bytes(MAX_MESSAGE_BYTES))
    except (OSError, EOFError):
        log.info("rank 0 is gone")
        os._exit(0)
    if isinstance(answer, Welcome):
        return answer
    reason = answer.reason if isinstance(answer, Refused | Goodbye) else "no answer"
    log.error("rank 0 refuses this process: %s", reason)
    os._exit(REFUSED)


def _end(reason: str) -> None:
    """Rank 0 is gone: nothing that this process waits for inside mlx will ever come."""
    log.info("rank 0 is gone: %s", reason)
    os._exit(0)


class _Pulse:
    """Signs of life for the outer process, whose end is the end of this one."""

    def __init__(self, outer: Connection):
        self._outer, self.text = outer, ALIVE
        threading.Thread(target=self._send, name="pulse", daemon=True).start()
        threading.Thread(target=self._wait, name="outer", daemon=True).start()

    def _send(self) -> None:
        while True:
            self._outer.send_bytes(self.text)
            time.sleep(BEAT_INTERVAL)

    def _wait(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._outer.recv_bytes()
        os._exit(0)
