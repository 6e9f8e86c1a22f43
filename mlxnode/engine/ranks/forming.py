"""What an engine on several machines does before it loads models: its ranks come together."""

import os
from typing import Protocol

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.ranks.cluster import Cluster, form
from mlxnode.figures import RankFigures
from mlxnode.messages.control import ChildToSupervisor, Ranks

FLUSH_SECONDS = 0.5  # for the last words of a process that ends


class Reporter(Protocol):
    """The engine, as the ranks know it."""

    def say(self, text: str) -> None:
        """Tell the user."""

    def report(self, message: ChildToSupervisor) -> None:
        """Send a message to the supervisor."""

    def flush(self, timeout: float) -> None:
        """Wait until the supervisor has what was reported."""


def formed(config: EngineConfig, engine: Reporter) -> Cluster | None:
    """The ranks of ``config``, connected; None: the engine is on one machine.

    When a rank is lost later, this process ends, and the supervisor starts all again.

    Raises:
        NodeError: the ranks do not come together, for a reason that the user can remove.
    """
    if config.distributed is None:
        return None

    def tell(figures: list[RankFigures]) -> None:
        engine.report(Ranks(figures))

    def end() -> None:
        engine.flush(FLUSH_SECONDS)
        os._exit(1)

    return form(config, engine.say, tell, end)
