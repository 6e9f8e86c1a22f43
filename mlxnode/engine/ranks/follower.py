"""A rank other than 0, once it is in the group: it does what rank 0 says until the goodbye."""

import logging
import os
from typing import NoReturn

import mlx.core as mx

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.loader import split
from mlxnode.engine.ranks.calls import Calls
from mlxnode.engine.ranks.link import Link
from mlxnode.engine.ranks.part import load_part
from mlxnode.errors import ModelError, reason_of
from mlxnode.messages.ranks import Goodbye, Loaded, LoadPart, NotLoaded, Plan

log = logging.getLogger("mlxnode.rank")


class Follower:
    """Loads its parts of models, and makes the calls of rank 0 with them."""

    def __init__(self, link: Link, settings: EngineConfig, group: mx.distributed.Group):
        self._link, self._settings = link, settings
        self._calls = Calls(group, self._end)
        split.use(group)

    def run(self) -> None:
        """Take messages until rank 0 ends the session.

        Raises:
            Stray: this rank and rank 0 do not do the same any more.
        """
        while not isinstance(message := self._link.receive(), Goodbye):
            match message:
                case Plan():
                    self._calls.follow(message)
                case LoadPart():
                    self._link.send(self._load(message))

    def _load(self, order: LoadPart) -> Loaded | NotLoaded:
        try:
            part = load_part(order, self._settings, self._calls.weights)
        except ModelError as error:
            return NotLoaded(order.handle, str(error))
        except Exception as error:  # of any type: models raise what they like
            log.debug("a part of %s cannot be loaded", order.model.id, exc_info=error)
            return NotLoaded(order.handle, reason_of(error))
        self._calls.adopt(order.handle, part.model, part.needs.weights)
        return Loaded(order.handle, part.kv_budget, part.kv_token)

    def _end(self, reason: str) -> NoReturn:
        log.error("%s", reason)
        self._link.close(Goodbye(reason))
        os._exit(1)
