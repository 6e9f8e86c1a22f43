"""The figures of the node: those of the engine, and the supervisor's own."""

import os
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future

from mlxnode import __version__
from mlxnode.figures import EngineFigures, NodeFigures, ProcessFigures
from mlxnode.messages.control import Pong
from mlxnode.process.accounts import Accounts
from mlxnode.process.batch_process import BatchProcess
from mlxnode.process.child import Child
from mlxnode.process.in_flight import RequestsInFlight
from mlxnode.process.listener import url_of
from mlxnode.process.moments import Moments, moment_of
from mlxnode.process.offer import Offer
from mlxnode.process.rank_states import RankStates
from mlxnode.process.status_socket import StatusSocket
from mlxnode.process.traffic import Traffic

_INTERVAL = 0.5  # seconds between two snapshots


class NodeStatus:
    """Takes a snapshot of the figures from time to time, and offers it on the status socket.

    The supervisor's loop takes the snapshots. The thread of the socket only reads the last
    one, so nobody outside can delay the supervisor.
    """

    def __init__(
        self,
        listener: socket.socket,
        offer: Offer,
        reload: Callable[[], Future[list[str]]] | None = None,
        accounts: Accounts | None = None,
        batches: BatchProcess | None = None,
    ):
        """``reload`` reads the configuration again, for a client of the status socket.

        ``batches`` is a process that exists at times.
        """
        self._address = url_of(listener).removeprefix("http://")
        self._offer = offer
        self._traffic = Traffic() if accounts is None else accounts.traffic
        self._limits = None if accounts is None else accounts.limits
        self._always = [offer.engine, *offer.workers]
        self._batches = batches
        self.requests = RequestsInFlight(offer.workers)
        self.ranks: RankStates | None = None
        self._moments = Moments()
        self._engine_figures: EngineFigures | None = None
        self._started_at = self._taken_at = time.monotonic()
        port = listener.getsockname()[1]
        self._socket = StatusSocket(port, lambda: self._snapshot, reload)
        self._snapshot = self._take(self._started_at, is_draining=False)

    def open(self) -> None:
        """Offer the figures from now on."""
        self._socket.open()

    def close(self) -> None:
        """Remove the status socket."""
        self._socket.close()

    def note_pong(self, child: Child, pong: Pong) -> None:
        """Keep the figures of the engine, or the requests of a worker."""
        self.requests.note(child, pong)
        if pong.figures is not None:
            self._engine_figures = pong.figures
            self._traffic.note_engine(pong.figures)

    def update(self, now: float, *, is_draining: bool) -> None:
        """Take a snapshot if the last one is old."""
        if not self._offer.engine.is_ready:
            self._engine_figures = None
        if now - self._taken_at >= _INTERVAL:
            self._snapshot = self._take(now, is_draining)

    @property
    def _children(self) -> list[Child]:
        return self._always + (self._batches.children if self._batches else [])

    def _take(self, now: float, is_draining: bool) -> NodeFigures:
        self._taken_at = now
        traffic, num_requests = self._traffic.figures(), self.requests.count
        moment = moment_of(self._engine_figures, traffic, num_requests)
        self._moments.note(now, moment)
        return NodeFigures(
            version=__version__,
            address=self._address,
            pid=os.getpid(),
            uptime=now - self._started_at,
            descriptor_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            is_draining=is_draining,
            processes=[_figures_of(child, now) for child in self._children],
            failed_models=self._offer.failures.reasons,
            engine=self._engine_figures,
            traffic=traffic,
            now=moment,
            num_requests=num_requests,
            requests=self.requests.oldest,
            fits={id: weighed.short for id, weighed in self._offer.fits.verdicts.items()},
            ranks=self.ranks.figures if self.ranks else [],
            aliases=dict(self._offer.models.aliases),
            history=self._moments.kept,
            shared_limits=None if self._limits is None else self._limits.is_reachable,
        )


def _figures_of(child: Child, now: float) -> ProcessFigures:
    pid = child.pid
    if pid is None:
        return ProcessFigures(
            name=child.name,
            state="not running",
            pid=None,
            starts=child.incarnation,
            uptime=None,
        )
    return ProcessFigures(
        name=child.name,
        state="ready" if child.is_ready else "starting",
        pid=pid,
        starts=child.incarnation,
        uptime=now - child.started_at,
    )
