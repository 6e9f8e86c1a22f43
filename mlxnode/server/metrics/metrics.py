"""The metrics of one worker: what it counts, and its answers to scrapes."""

import logging
from pathlib import Path

from mlxnode.figures import NodeFigures
from mlxnode.server.metrics.counts import Counts
from mlxnode.server.metrics.rendering import Form, Order
from mlxnode.server.metrics.scrapes import Scrapes

logger = logging.getLogger("mlxnode.server")


class Metrics:
    """``counts`` is None if there is no room for them: the figures of the node are left."""

    def __init__(self, folder: Path | None, index: int):
        """Count for worker ``index`` in ``folder``, which all workers have in common."""
        self.counts: Counts | None = None
        self._folder = folder
        self._scrapes = Scrapes()
        try:
            self.counts = folder and Counts(folder, index)
        except OSError as error:
            logger.warning("/metrics will have no requests of this worker: %s", error)

    async def render(
        self,
        figures: NodeFigures | None,
        form: Form,
        *,
        is_compressed: bool,
        store: Path | None = None,
    ) -> bytes:
        """What Prometheus reads, with ``figures`` if the supervisor told them.

        ``store`` is the folder of files and batches; None: the node has none.

        Raises:
            OSError, EOFError: the process that renders cannot be started, or has ended.
        """
        order = Order(self._folder, figures, form, is_compressed, store)
        return await self._scrapes.render(order)
