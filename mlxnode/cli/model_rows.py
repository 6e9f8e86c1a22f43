"""The facts of each model that ``mlxnode models`` lists."""

from collections import defaultdict
from typing import Literal

import msgspec

from mlxnode.config.file import LoadedConfig
from mlxnode.errors import reason_of
from mlxnode.figures import ModelFigures, NodeFigures
from mlxnode.models.quantization import quantization_of
from mlxnode.models.resolve import list_models
from mlxnode.models.served import ServedModel
from mlxnode.process.status_text import size_text, state_text
from mlxnode.process.weigh import weigh

Origin = Literal["configured", "found", "demo"]


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model. ``size_bytes`` and ``context_length`` are None if it is not on disk.

    ``fit`` is a short verdict on its memory, "" if it is not known; ``state`` that of the
    running node, "" if none runs.
    """

    id: str
    type: str
    origin: Origin
    aliases: list[str]
    on_disk: bool
    error: str | None
    size_bytes: int | None
    context_length: int | None
    quantization: str
    fit: str
    state: str
    path: str

    @property
    def size_text(self) -> str:
        return "-" if self.size_bytes is None else size_text(self.size_bytes)

    @property
    def context_text(self) -> str:
        return "-" if self.context_length is None else str(self.context_length)

    @property
    def disk_text(self) -> str:
        if self.error is not None:
            return f"error: {self.error}"
        return "yes" if self.on_disk else "no"


def model_rows(loaded: LoadedConfig, figures: NodeFigures | None) -> list[ModelRow]:
    """All models of the configuration; ``figures`` are those of its node, if one runs."""
    listed = list_models(loaded.config, folder=loaded.folder)
    fits = _fits([model for _, model in listed if model is not None], loaded, figures)
    aliases: dict[str, list[str]] = defaultdict(list)
    for alias, id in loaded.aliases.items():
        aliases[id].append(alias)
    states = _states(figures)
    rows = []
    for row, served in listed:
        error = row.on_disk.removeprefix("error: ") if row.on_disk[:6] == "error:" else None
        rows.append(
            ModelRow(
                id=row.id,
                type=row.type,
                origin=_origin(loaded, row.id),
                aliases=sorted(aliases[row.id]),
                on_disk=served is not None or error is not None,
                error=error,
                size_bytes=served.size_bytes if served else None,
                context_length=served.context_length if served else None,
                quantization=_quantization(served),
                fit=fits.get(row.id, ""),
                state=states.get(row.id, ""),
                path=row.path,
            )
        )
    return rows


def _fits(
    models: list[ServedModel], loaded: LoadedConfig, figures: NodeFigures | None
) -> dict[str, str]:
    """The verdicts of the running node, and new ones on the other models."""
    known = dict(figures.fits) if figures is not None else {}
    others = [model for model in models if model.id not in known]
    found = weigh(others, loaded.config.engine)
    return known | {id: weighed.short for id, weighed in found.items()}


def _states(figures: NodeFigures | None) -> dict[str, str]:
    if figures is None:
        return {}
    models: list[ModelFigures] = figures.engine.models if figures.engine is not None else []
    states = {model.id: state_text(model) for model in models}
    return states | dict.fromkeys(figures.failed_models, "failed")


def _origin(loaded: LoadedConfig, id: str) -> Origin:
    if id in loaded.found:
        return "found"
    is_demo = loaded.config.api.models[id].path.startswith("demo/")
    return "demo" if is_demo and loaded.is_discovering else "configured"


def _quantization(model: ServedModel | None) -> str:
    if model is None:
        return ""
    try:
        return quantization_of(model)
    except Exception as error:  # of any type: the files are foreign data
        return f"? ({reason_of(error)})"
