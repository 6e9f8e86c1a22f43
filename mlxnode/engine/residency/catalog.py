"""The models that the engine knows, and how they change at run time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mlxnode.engine.residency.known import KnownModel, is_same
from mlxnode.models.served import ServedModel


@dataclass
class Catalog:
    """The known models by id. ``gone`` have requests left, and leave when these have ended."""

    models: dict[str, KnownModel] = field(default_factory=dict)
    gone: list[KnownModel] = field(default_factory=list)

    def __iter__(self) -> Iterator[KnownModel]:
        """All models, those that are gone too."""
        yield from self.models.values()
        yield from self.gone

    def configure(self, models: Sequence[ServedModel]) -> list[KnownModel]:
        """Take the models of a configuration; returns those that are gone or replaced.

        A model that is loaded in another way from now on is replaced: its requests end as they
        have begun, and those that wait go to the next one.
        """
        before, self.models = self.models, {}
        replaced = []
        for served in models:
            old = before.pop(served.id, None)
            if old is not None and is_same(old.served, served):
                _update(old, served)
                self.models[served.id] = old
                continue
            known = KnownModel(served, is_pinned=served.is_pinned)
            known.is_wanted = served.preload or served.is_pinned
            if old is not None:
                known.is_wanted |= old.loaded is not None
                known.waiting, old.waiting = old.waiting, known.waiting
                known.loads, old.loads = old.loads, known.loads
                replaced.append(old)
            self.models[served.id] = known
        replaced += before.values()
        for old in replaced:
            old.is_gone = old.is_leaving = True
            old.is_wanted = False
        self.gone += [old for old in replaced if old.loaded is not None]
        return replaced

    def is_replacing(self, model: KnownModel) -> bool:
        """True if an earlier model of the same id has not left yet."""
        return any(old.id == model.id for old in self.gone)


def _update(known: KnownModel, served: ServedModel) -> None:
    """The same model with other settings."""
    before, known.served = known.served, served
    if served.is_pinned != before.is_pinned:
        known.is_pinned = served.is_pinned
    is_new = (served.preload and not before.preload) or (
        served.is_pinned and not before.is_pinned
    )
    if is_new and known.loaded is None:
        known.is_wanted = True
