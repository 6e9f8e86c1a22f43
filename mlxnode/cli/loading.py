"""The configuration of a command, with its models; and the port of the node that it is for."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlxnode.cli.chosen import choose
from mlxnode.cli.output import say
from mlxnode.cli.progress import download_bar
from mlxnode.config.file import LoadedConfig, load_config, parse_address
from mlxnode.config.tables import NodeConfig
from mlxnode.errors import ModelError, NodeError
from mlxnode.models.demo import DEMO_MODELS, demo_path, fetch_demo_model
from mlxnode.models.discovery.complete import complete
from mlxnode.models.files import fetch_files
from mlxnode.models.resolve import Resolved, resolve_each

_DEMO = "demo/"


def load(
    file: Path | None,
    *,
    overrides: Mapping[str, Any] | None = None,
    names: Sequence[str] = (),
) -> LoadedConfig:
    """The configuration with the models on the disk; with ``names``: with those models only.

    Raises:
        NodeError: the configuration is wrong, or a name means no model.
    """
    loaded = load_config(file, overrides=overrides)
    if not names:
        return complete(loaded, say)
    return choose(complete(replace(loaded, is_discovering=True), say), names)


def port_of(file: Path | None, address: str | None) -> int:
    """The port of the node at ``address``, else of the node of the configuration."""
    return load_config(file).port if address is None else parse_address(address)[1]


def resolve(loaded: LoadedConfig) -> Resolved:
    """Find, fetch and describe the models of the configuration.

    Raises:
        ConfigError: no model is configured, or a value exceeds the limit of its model.
    """
    failed = _fetch_demo_models(loaded.config)
    if failed and len(failed) == len(loaded.config.api.models):
        return Resolved([], failed)
    try:
        found = resolve_each(
            _without(loaded.config, failed),
            say,
            folder=loaded.folder,
            fetch=functools.partial(fetch_files, meter=download_bar),
        )
    except NodeError as error:
        raise type(error)(f"{loaded.where}: {error}") from error
    return Resolved(found.models, failed | found.failed)


def warn(loaded: LoadedConfig) -> None:
    """Print the warnings of the configuration."""
    for warning in loaded.warnings:
        say(f"mlxnode: {loaded.where}: warning: {warning}")


def _fetch_demo_models(config: NodeConfig) -> dict[str, str]:
    """Fetch the demo models that are configured and not in the cache, with one bar for all.

    Returns the ids of those that cannot be fetched, each with the reason.
    """
    wanted = {
        id: model.path.removeprefix(_DEMO)
        for id, model in config.api.models.items()
        if model.path.startswith(_DEMO)
    }
    names = [name for name in dict.fromkeys(wanted.values()) if _is_missing(name)]
    if not names:
        return {}
    failed: dict[str, str] = {}
    total = sum(DEMO_MODELS[name].num_bytes for name in names)
    with download_bar("fetching the demo models", total) as show:
        done = 0
        for name in names:
            try:
                fetch_demo_model(name, meter=lambda size, done=done: show(done + size))
            except ModelError as error:
                failed |= {id: str(error) for id in wanted if wanted[id] == name}
                continue
            done += DEMO_MODELS[name].num_bytes
            show(done)
    return failed


def _is_missing(name: str) -> bool:
    return name in DEMO_MODELS and not demo_path(name).exists()


def _without(config: NodeConfig, failed: dict[str, str]) -> NodeConfig:
    if not failed:
        return config
    models = {id: model for id, model in config.api.models.items() if id not in failed}
    return config.model_copy(update={"api": config.api.model_copy(update={"models": models})})
