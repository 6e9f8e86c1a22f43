"""What the node has said about its models: the supervisor, and the engine."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from mlxnode.config.tables import ModelType
from mlxnode.figures import ModelState
from mlxnode.messages.control import Models
from mlxnode.messages.data import ModelStates
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel
from mlxnode.server.registry.facts import Facts

Status = Literal["loaded", "unloaded", "loading", "unloading", "failed"]


class Catalog:
    """All models of the node by id, whoever may use them.

    ``types`` has all configured and found models, ``described`` those with readable files.
    ``reasons`` are the supervisor's: why a model fails. ``fits`` has the verdicts so far.
    ``facts`` has what was read from files.
    """

    def __init__(self, models: Sequence[ServedModel], types: Mapping[str, ModelType]):
        self.types: dict[str, ModelType] = dict(types)
        self.types.update({model.id: model.type for model in models})
        self.described = {model.id: model for model in models}
        self.aliases: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.fits: dict[str, Weighed] = {}
        self.facts: dict[str, Facts] = {}
        self.version = 0  # counts the changes of models and aliases
        self._states: dict[str, ModelState] | None = None  # None: no engine has told them
        self._pinned: frozenset[str] = frozenset()
        self._next_telling = asyncio.Event()

    def replace(self, models: Models) -> list[str]:
        """Know ``models`` from now on; returns the ids of those that are gone or different."""
        self.version += 1
        before, after = self.described, {model.id: model for model in models.models}
        changed = [id for id, model in before.items() if after.get(id) != model]
        kept = before.keys() - set(changed)
        # The same objects, where nothing has changed.
        self.described = {id: before[id] if id in kept else after[id] for id in after}
        self.types = dict(models.types)
        self.types.update({id: model.type for id, model in after.items()})
        self.aliases = dict(models.aliases)
        self.facts = {id: facts for id, facts in self.facts.items() if id in kept}
        return changed

    def note_states(self, told: ModelStates | None) -> list[tuple[str, ModelState]]:
        """The engine has ``told`` the states of its models; None: there is no engine.

        Returns the models whose known state has changed, with the new one.
        """
        before = self._states or {}
        self._states = None if told is None else dict(told.states)
        self._pinned = frozenset(() if told is None else told.pinned)
        after = self._states or {}
        self._next_telling.set()
        self._next_telling = asyncio.Event()
        return [(id, after[id]) for id in after if before.get(id, after[id]) != after[id]]

    async def until(self, is_so: Callable[[], bool], seconds: float = 2.0) -> None:
        """Wait for the engine to tell states with which ``is_so`` is true; or in vain."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not is_so():
                    await self._next_telling.wait()

    @property
    def held(self) -> set[str] | None:
        """The models that the engine has, or is about to have; None: it has not told them."""
        if self._states is None:
            return None
        return {id for id, state in self._states.items() if state != "unloaded"}

    def is_known_to_the_engine(self, model_id: str) -> bool:
        return self._states is not None and model_id in self._states

    def is_pinned(self, model_id: str) -> bool:
        """True if the engine unloads the model for no other one."""
        if self._states is None:
            return model_id in self.described and self.described[model_id].is_pinned
        return model_id in self._pinned

    def state(self, model_id: str) -> ModelState:
        """The engine's word; without an engine, what the next one begins with."""
        if self._states is not None:
            return self._states.get(model_id, "unloaded")
        model = self.described.get(model_id)
        return (
            "loading"
            if model is not None and (model.preload or model.is_pinned)
            else "unloaded"
        )

    def names_of(self, model_id: str) -> list[str]:
        """The aliases of a model. An alias that is an id is that model's."""
        return [
            alias
            for alias, id in self.aliases.items()
            if id == model_id and alias not in self.types
        ]
