"""Rank 0's side of an engine on several machines: form the group, watch it, end with it."""

import contextlib
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mlxnode.config.hostfile import read_hostfile
from mlxnode.config.several import DistributedConfig, Strategy, engine_key
from mlxnode.config.tables import EngineConfig
from mlxnode.engine.ranks import group as groups
from mlxnode.engine.ranks.door import Arrival, Door
from mlxnode.engine.ranks.launching import Launcher
from mlxnode.engine.ranks.link import SILENCE, Link, LinkLost
from mlxnode.errors import ConfigError, NodeError
from mlxnode.figures import RankFigures
from mlxnode.messages.message import Message, encode
from mlxnode.messages.ranks import (
    Beat,
    Goodbye,
    Loaded,
    NotLoaded,
    Refused,
    Welcome,
    from_rank,
)

if TYPE_CHECKING:
    import mlx.core as mx

log = logging.getLogger("mlxnode.ranks")

FIGURES_INTERVAL = 1.0  # seconds
END_SECONDS = 1.0  # for the last words to the supervisor

Say = Callable[[str], None]
Tell = Callable[[list[RankFigures]], None]


class Cluster:
    """All ranks of this engine. Made by ``form``."""

    def __init__(self, config: DistributedConfig, tell: Tell, end: Callable[[], None]):
        """``tell`` brings the figures to the supervisor; ``end`` ends this process at once."""
        self.hostfile = read_hostfile(config)
        self._config, self._tell, self._end = config, tell, end
        self._backend = groups.choose_backend(config, self.hostfile)
        self._links: dict[int, Link] = {}
        self._launcher: Launcher | None = None
        self._group: mx.distributed.Group | None = None
        self._failures: queue.SimpleQueue[str] = queue.SimpleQueue()  # while it forms
        self._lost: dict[int, str] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    # --- what the engine asks for ---------------------------------------------------

    @property
    def size(self) -> int:
        """The number of ranks, this one included."""
        return len(self.hostfile.hosts)

    @property
    def group(self) -> "mx.distributed.Group":
        """All ranks, for tensors."""
        if self._group is None:
            raise RuntimeError("the ranks are not connected yet")
        return self._group

    @property
    def strategy(self) -> Strategy:
        """How models that say nothing are spread."""
        return self._config.strategy

    def describe(self, rank: int) -> str:
        """``rank`` in messages: ``rank 1 (studio-2)``."""
        return self.hostfile.describe(rank)

    def send(self, message: Message) -> None:
        """Send ``message`` to all other ranks. If one is lost, this process ends."""
        for link in self._links.values():
            try:
                link.send(message)
            except LinkLost:
                self._wait_for_end()

    def replies(self) -> Iterator[tuple[int, Loaded | NotLoaded]]:
        """What other ranks have answered since the last call, each with its rank."""
        for rank, link in self._links.items():
            try:
                while (message := link.receive_nowait()) is not None:
                    if isinstance(message, Loaded | NotLoaded):
                        yield rank, message
            except LinkLost:
                self._wait_for_end()

    def beats(self) -> dict[int, Beat]:
        """The last sign of life of each other rank."""
        return {rank: link.last_beat for rank, link in self._links.items()}

    def figures(self) -> list[RankFigures]:
        """All ranks, as they are now."""
        return [
            self._figures_of(rank, host.ssh) for rank, host in enumerate(self.hostfile.hosts)
        ]

    def close(self) -> None:
        """End all other ranks."""
        with self._lock:
            self._closed.set()
        for link in self._links.values():
            link.close(Goodbye())
        if self._launcher is not None:
            self._launcher.close()

    # --- forming --------------------------------------------------------------------

    def form(self, engine: EngineConfig, say: Say) -> None:
        """Connect all ranks and enter the group.

        Raises:
            NodeError: a rank does not come, or has other versions.
        """
        self._tell(self.figures())
        key = engine_key(self._config) or secrets.token_hex(32)
        address = self.hostfile.hosts[0].address
        door = Door(address, self._config.port, key.encode(), self._config.start_timeout)
        where = f"[{address}]:{door.port}" if ":" in address else f"{address}:{door.port}"
        try:
            if self._config.launch:
                self._launcher = Launcher(self.hostfile, where, key, self._failures.put)
            arrivals = self._gather(door, where, say)
        except BaseException:
            if self._launcher is not None:
                self._launcher.close()
            raise
        finally:
            door.close()
        self._join(engine, arrivals)

    def _gather(self, door: Door, where: str, say: Say) -> dict[int, Arrival]:
        """Wait for all other ranks; rank -> its connection."""
        arrivals: dict[int, Arrival] = {}
        names = ", ".join(map(self.describe, range(1, self.size)))
        how = "" if self._config.launch else f": mlxnode engine --rank N --of {where}"
        say(f"waiting for {names}{how}")
        deadline = time.monotonic() + self._config.start_timeout
        while len(arrivals) < self.size - 1:
            say("")  # the supervisor does not take the wait for a hang
            if not self._failures.empty():
                raise NodeError(f"engine.distributed: {self._failures.get()}")
            try:
                arrival = door.arrivals.get(timeout=0.5)
            except queue.Empty:
                if time.monotonic() > deadline:
                    missing = [r for r in range(1, self.size) if r not in arrivals]
                    raise NodeError(
                        f"engine.distributed: {', '.join(map(self.describe, missing))} did not "
                        f"connect within {self._config.start_timeout:g} s (start_timeout)"
                    ) from None
                continue
            if (rank := self._admit(arrival, arrivals)) is not None:
                arrivals[rank] = arrival
                log.info("%s is here", self.describe(rank))
        return arrivals

    def _admit(self, arrival: Arrival, arrivals: dict[int, Arrival]) -> int | None:
        """The rank of a process that has come; None: it is refused and all goes on.

        Raises:
            NodeError: its versions differ, and so they would the next time.
        """
        hello = arrival.hello
        free = [rank for rank in range(1, self.size) if rank not in arrivals]
        rank = free[0] if hello.rank is None else hello.rank
        if rank not in range(1, self.size):
            reason = f"there is no rank {rank}: the hostfile has ranks 0 to {self.size - 1}"
            return _refuse(arrival, reason)
        if rank not in free:
            return _refuse(arrival, f"another process is {self.describe(rank)} already")
        ours = groups.versions()
        for name, version in ours.items():
            if (theirs := hello.versions.get(name)) != version:
                reason = (
                    f"{self.describe(rank)} has {name} {theirs or '(none)'}, "
                    f"rank 0 ({self.hostfile.hosts[0].ssh}) {version}"
                )
                _refuse(arrival, reason)
                raise NodeError(f"engine.distributed: {reason}")
        return rank

    def _join(self, engine: EngineConfig, arrivals: dict[int, Arrival]) -> None:
        values, files = groups.variables(self.hostfile, self._backend, self._config.port + 1)
        settings = engine.model_copy(update={"distributed": None}).model_dump(mode="json")
        for rank, (connection, _) in arrivals.items():
            welcome = Welcome(rank, self.size, self._backend, values, files, settings, SILENCE)
            try:
                connection.send_bytes(encode(welcome))
            except OSError as error:
                raise NodeError(f"{self.describe(rank)} is gone: {error.strerror}") from error
        self._group = groups.join(0, self._backend, values, files)
        for rank, (connection, _) in arrivals.items():
            self._links[rank] = Link(
                connection, from_rank, lambda reason, rank=rank: self._on_lost(rank, reason)
            )
        for link in self._links.values():
            link.start()
        threading.Thread(target=self._watch, name="ranks-figures", daemon=True).start()

    # --- watching -------------------------------------------------------------------

    def _watch(self) -> None:
        """Bring the figures to the supervisor; the launcher's end is the ranks' business."""
        told: list[RankFigures] = []
        while True:
            if (figures := self.figures()) != told and not self._lost:
                told = figures
                self._tell(figures)
            if self._closed.wait(FIGURES_INTERVAL):
                return

    def _figures_of(self, rank: int, host: str) -> RankFigures:
        if rank in self._lost:
            return RankFigures(rank=rank, host=host, state="lost", reason=self._lost[rank])
        if self._group is None:
            return RankFigures(rank=rank, host=host, state="starting")
        if rank == 0:
            import mlx.core as mx

            memory = mx.get_active_memory()
        else:
            memory = self._links[rank].last_beat.memory_bytes
        return RankFigures(rank=rank, host=host, state="ready", memory_bytes=memory)

    def _on_lost(self, rank: int, reason: str) -> None:
        """End this process, whatever it does, and with it all ranks: on a thread of a link."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        self._lost[rank] = reason
        log.error("%s is lost: %s; all ranks start again", self.describe(rank), reason)
        self._tell(self.figures())
        if self._launcher is not None:
            self._launcher.close()
        self._end()

    def _wait_for_end(self) -> None:
        """Another thread ends this process: nothing that needs all ranks can go on."""
        if not self._closed.is_set():
            time.sleep(END_SECONDS + SILENCE)
        threading.Event().wait(END_SECONDS + SILENCE)


def _refuse(arrival: Arrival, reason: str) -> None:
    log.warning("a process at %s is refused: %s", arrival.hello.host, reason)
    with contextlib.suppress(OSError):
        arrival.connection.send_bytes(encode(Refused(reason)))
    arrival.connection.close()


def form(
    config: EngineConfig, say: Say, tell: Tell, end: Callable[[], None] = lambda: os._exit(1)
) -> Cluster:
    """The ranks of ``config.distributed``, connected and in one group.

    ``say`` tells the user; an empty text is a sign of life. ``tell`` brings the figures of all
    ranks to the supervisor. ``end`` ends this process when a rank is lost.

    Raises:
        NodeError: a rank cannot be started or does not fit; ConfigError: the configuration.
    """
    if config.distributed is None:
        raise ConfigError("engine.distributed is not set")
    cluster = Cluster(config.distributed, tell, end)
    cluster.form(config, say)
    return cluster
