"""All configured models: resolved for serving, or listed for the command line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from mlxnode.config.tables import NodeConfig
from mlxnode.errors import ConfigError, ModelError, reason_of
from mlxnode.models.describe import describe
from mlxnode.models.files import ModelFiles, Progress, fetch_files, find_files
from mlxnode.models.served import ServedModel


class ListedModel(NamedTuple):
    """The cells of one model in the table that ``mlxnode models`` prints."""

    id: str
    type: str
    size: str
    context: str
    on_disk: str
    fit: str
    path: str


class Resolved(NamedTuple):
    """The models that can be loaded, and the others: id -> reason."""

    models: list[ServedModel]
    failed: dict[str, str]


def resolve_models(
    config: NodeConfig, progress: Progress, *, folder: Path | None = None
) -> list[ServedModel]:
    """Find, fetch and describe every configured model.

    Relative paths are relative to ``folder``, by default the current folder.

    Raises:
        ModelError: a model is missing, cannot be fetched, or cannot be served as its type.
        ConfigError: no model is configured, or a value exceeds the limit of its model.
    """
    models, failed = resolve_each(config, progress, folder=folder)
    for id, reason in failed.items():
        raise ModelError(_line(config, id, reason))
    return models


def failure_text(config: NodeConfig, failed: Mapping[str, str]) -> str:
    """One line for each failed model."""
    return "\n".join(_line(config, id, reason) for id, reason in failed.items())


def _line(config: NodeConfig, id: str, reason: object) -> str:
    return f'api.models.{id} (path = "{config.api.models[id].path}"): {reason}'


def resolve_each(
    config: NodeConfig,
    progress: Progress,
    *,
    folder: Path | None = None,
    fetch: Callable[[str, Path, Progress], ModelFiles] = fetch_files,
) -> Resolved:
    """Find, fetch and describe every configured model; a model that fails ends nothing.

    ``fetch`` returns the files of a path, or raises why there are none.

    Raises:
        ConfigError: no model is configured, or a value exceeds the limit of its model.
    """
    if not config.api.models:
        raise ConfigError("api.models: no model is configured; add a table [api.models.<id>]")
    resolved = Resolved([], {})
    for id, model in config.api.models.items():
        try:
            files = fetch(model.path, folder or Path.cwd(), progress)
            resolved.models.append(describe(id, model, files))
        except ConfigError as error:
            raise ConfigError(_line(config, id, error)) from error
        except Exception as error:  # of any type: the files are foreign data
            resolved.failed[id] = reason_of(error)
    return resolved


def list_models(
    config: NodeConfig, *, folder: Path | None = None
) -> list[tuple[ListedModel, ServedModel | None]]:
    """One entry for each configured model, and its facts if its files are on disk.

    Fetches nothing; an error stands in ``on_disk``.
    """
    listed: list[tuple[ListedModel, ServedModel | None]] = []
    for id, model in config.api.models.items():
        size = context = "-"
        on_disk, served = "no", None
        try:
            files = find_files(model.path, folder or Path.cwd())
            if files is not None:
                served = describe(id, model, files)
                size, context = f"{served.size_bytes / 1e6:.0f} MB", str(served.context_length)
                on_disk = "yes"
        except Exception as error:  # of any type: the files are foreign data
            on_disk = f"error: {reason_of(error)}"
        row = ListedModel(id, model.type, size, context, on_disk, "-", model.path)
        listed.append((row, served))
    return listed
