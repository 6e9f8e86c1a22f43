"""What the workers of a node share from its start to its end: folders, and a socket."""

import logging
from dataclasses import dataclass
from pathlib import Path

from mlxnode.config.tables import ServerConfig
from mlxnode.process.private_folder import PrivateFolder

log = logging.getLogger("mlxnode.supervisor")


@dataclass(frozen=True)
class Shared:
    """What each worker gets. A folder is None if nothing is kept there.

    ``responses`` has the stored answers. ``metrics`` has the counts that every worker adds to,
    also those of workers that have ended.
    """

    responses: Path | None = None
    metrics: Path | None = None


class SharedFolders:
    """Exist from ``open`` to ``close``; only the owner of the node can read them."""

    def __init__(self, server: ServerConfig):
        self._responses = PrivateFolder() if server.response_store else None
        self._metrics = PrivateFolder() if server.metrics != "off" else None

    @property
    def for_workers(self) -> Shared:
        """The folders, which need not exist yet."""
        return Shared(
            responses=self._responses and self._responses.path,
            metrics=self._metrics and self._metrics.path,
        )

    def open(self) -> None:
        """Make the folders. A node serves without counts as well, so that is only logged.

        Raises:
            OSError: the folder of stored answers cannot be made.
        """
        if self._responses is not None:
            self._responses.open()
        if self._metrics is not None:
            try:
                self._metrics.open()
            except OSError as error:
                log.warning("/metrics will have no requests: %s", error)

    def close(self) -> None:
        """Remove the folders."""
        for folder in (self._responses, self._metrics):
            if folder is not None:
                folder.close()
