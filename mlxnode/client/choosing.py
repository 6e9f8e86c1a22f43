"""The model that a command asks for, among those of a node."""

import difflib
from collections.abc import Sequence

from mlxnode.client.requests import Model
from mlxnode.errors import RequestError

_SHOWN = 12  # ids in a message
_LOADED = ("loaded", "ready")


def find(models: Sequence[Model], wanted: str) -> Model | None:
    """The model with the id or the alias ``wanted``."""
    by_id = (model for model in models if model.id == wanted)
    by_alias = (model for model in models if wanted in model.aliases)
    return next(by_id, None) or next(by_alias, None)


def choose(models: Sequence[Model], wanted: str | None, types: Sequence[str]) -> Model:
    """The model ``wanted``; without one, a loaded one, else the first that has not failed.

    Raises:
        RequestError: there is none of these types.
    """
    kind = " or ".join(types)
    of_type = [model for model in models if model.type in types]
    if wanted is not None:
        found = find(models, wanted)
        if found is None:
            raise RequestError(f"the node has no model {wanted}; {_hint(models, wanted)}")
        if found.type not in types:
            others = f"; {kind} models are {listed(of_type)}" if of_type else ""
            raise RequestError(f"{found.id} is of type {found.type}, not {kind}{others}")
        return found
    if not of_type:
        raise RequestError(f"the node has no {kind} model; it has {listed(models)}")
    usable = [model for model in of_type if model.status != "failed"]
    if not usable:
        raise RequestError(f"{of_type[0].id} cannot be served: {of_type[0].reason}")
    return next((model for model in usable if model.status in _LOADED), usable[0])


def one_of_each(models: Sequence[Model], types: Sequence[str]) -> list[Model]:
    """For each type that the node has, the model that ``choose`` takes."""
    usable = {model.type for model in models if model.status != "failed"}
    return [choose(models, None, [type]) for type in types if type in usable]


def listed(models: Sequence[Model]) -> str:
    """The ids for a message."""
    ids = [model.id for model in models]
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{', '.join(ids[:_SHOWN])}{more}" if ids else "none"


def _hint(models: Sequence[Model], wanted: str) -> str:
    names = [name for model in models for name in (model.id, *model.aliases)]
    nearest = difflib.get_close_matches(wanted, names, n=1)
    return f"did you mean {nearest[0]}?" if nearest else f"it has {listed(models)}"
