"""A rank other than 0, once it is in the group."""

from typing import TYPE_CHECKING

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.ranks.link import Link
from mlxnode.messages.ranks import Goodbye

if TYPE_CHECKING:
    import mlx.core as mx


class Follower:
    """Does what rank 0 says until it says goodbye."""

    def __init__(self, link: Link, settings: EngineConfig, group: "mx.distributed.Group"):
        self._link, self._settings, self._group = link, settings, group

    def run(self) -> None:
        """Take messages until rank 0 ends the session."""
        while not isinstance(self._link.receive(), Goodbye):
            pass
