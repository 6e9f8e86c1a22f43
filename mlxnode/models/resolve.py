"""All configured models: resolved for serving, or listed for the command line."""

from pathlib import Path
from typing import NamedTuple

from mlxnode.config.tables import NodeConfig
from mlxnode.errors import ConfigError, ModelError
from mlxnode.models.describe import describe
from mlxnode.models.files import Progress, fetch_files, find_files
from mlxnode.models.served import ServedModel


class ListedModel(NamedTuple):
    """The cells of one model in the table that ``mlxnode models`` prints."""

    id: str
    type: str
    size: str
    context: str
    on_disk: str
    path: str


def resolve_models(
    config: NodeConfig, progress: Progress, *, folder: Path | None = None
) -> list[ServedModel]:
    """Find, fetch and describe every configured model.

    Relative paths are relative to ``folder``, by default the current folder.

    Raises:
        ModelError: a model is missing, cannot be fetched, or cannot be served as its type.
        ConfigError: no model is configured, or a value exceeds the limit of its model.
    """
    if not config.api.models:
        raise ConfigError("api.models: no model is configured; add a table [api.models.<id>]")
    resolved = []
    for id, model in config.api.models.items():
        try:
            files = fetch_files(model.path, folder or Path.cwd(), progress)
            resolved.append(describe(id, model, files))
        except (ModelError, ConfigError) as error:
            raise type(error)(f'api.models.{id} (path = "{model.path}"): {error}') from error
    return resolved


def list_models(config: NodeConfig, *, folder: Path | None = None) -> list[ListedModel]:
    """One entry for each configured model. Fetches nothing; an error stands in ``on_disk``."""
    listed = []
    for id, model in config.api.models.items():
        size = context = "-"
        on_disk = "no"
        try:
            files = find_files(model.path, folder or Path.cwd())
            if files is not None:
                served = describe(id, model, files)
                size, context = f"{served.size_bytes / 1e6:.0f} MB", str(served.context_length)
                on_disk = "yes"
        except (ModelError, ConfigError) as error:
            on_disk = f"error: {error}"
        listed.append(ListedModel(id, model.type, size, context, on_disk, model.path))
    return listed
