"""What commands do with a configuration that they have read."""

from mlxnode.cli.output import say
from mlxnode.config.file import LoadedConfig
from mlxnode.errors import NodeError
from mlxnode.models.resolve import Resolved, resolve_each


def resolve(loaded: LoadedConfig) -> Resolved:
    """Find, fetch and describe the models of the configuration.

    Raises:
        ConfigError: no model is configured, or a value exceeds the limit of its model.
    """
    try:
        return resolve_each(loaded.config, say, folder=loaded.folder)
    except NodeError as error:
        raise type(error)(f"{loaded.where}: {error}") from error


def warn(loaded: LoadedConfig) -> None:
    """Print the warnings of the configuration."""
    for warning in loaded.warnings:
        say(f"mlxnode: {loaded.where}: warning: {warning}")
