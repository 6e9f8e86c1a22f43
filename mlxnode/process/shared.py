"""What the workers of a node share from its start to its end: folders, and a socket."""

import logging
import socket
from dataclasses import dataclass
from pathlib import Path

from mlxnode.config.tables import ServerConfig
from mlxnode.process.inner_socket import InnerSocket
from mlxnode.process.private_folder import PrivateFolder

log = logging.getLogger("mlxnode.supervisor")


class PlaceError(Exception):
    """A place that the node cannot serve without."""


@dataclass(frozen=True)
class Shared:
    """What each worker gets. A folder is None if nothing is kept there.

    ``responses`` has the stored answers. ``metrics`` has the counts that every worker adds to,
    also those of workers that have ended. ``inner`` listens for the node's own requests.
    """

    responses: Path | None = None
    metrics: Path | None = None
    inner: socket.socket | None = None


class SharedPlaces:
    """Exist from ``open`` to ``close``; only the owner of the node can enter them."""

    def __init__(self, server: ServerConfig):
        self._responses = PrivateFolder() if server.response_store else None
        self._metrics = PrivateFolder() if server.metrics != "off" else None
        self._inner = InnerSocket() if server.batches.enabled else None

    @property
    def inner_path(self) -> Path | None:
        """The inner socket; None if there is none."""
        return self._inner.path if self._inner and self._inner.listener else None

    @property
    def for_workers(self) -> Shared:
        """The folders, which need not exist yet, and the socket if it does."""
        return Shared(
            responses=self._responses and self._responses.path,
            metrics=self._metrics and self._metrics.path,
            inner=self._inner and self._inner.listener,
        )

    def open(self) -> Shared:
        """Make all. A node serves without counts and batches as well: that is only logged.

        Raises:
            PlaceError: the folder of stored answers cannot be made.
        """
        if self._responses is not None:
            try:
                self._responses.open()
            except OSError as error:
                raise PlaceError(f"server.response_store: {error}") from error
        if self._metrics is not None:
            try:
                self._metrics.open()
            except OSError as error:
                log.warning("/metrics will have no requests: %s", error)
        if self._inner is not None:
            try:
                self._inner.open()
            except OSError as error:
                log.warning("batches will not run: %s: %s", self._inner.path, error)
        return self.for_workers

    def close(self) -> None:
        """Remove the folders and the socket."""
        if self._inner is not None:
            self._inner.close()
        for folder in (self._responses, self._metrics):
            if folder is not None:
                folder.close()
