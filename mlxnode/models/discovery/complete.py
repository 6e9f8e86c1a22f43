"""A configuration with the models that are on the disk, as all commands use it."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mlxnode.config.demo import demo_models
from mlxnode.config.file import LoadedConfig
from mlxnode.config.keys import ApiKey
from mlxnode.config.tables import KeyConfig, ModelConfig
from mlxnode.errors import ConfigError
from mlxnode.models.discovery.aliases import add_aliases, short_names
from mlxnode.models.discovery.find import Found, find_models


def complete(
    loaded: LoadedConfig, progress: Callable[[str], None] = lambda text: None
) -> LoadedConfig:
    """``loaded`` with the models that its ``[server.discovery]`` finds, and with all aliases.

    The models become tables of ``[api.models]``: what looks at the configuration afterwards
    sees no difference, but that they are not preloaded. If there is no model, they are the demo
    models. Complete a configuration once only.

    Raises:
        ConfigError: an alias or a folder of ``[server.discovery]`` cannot be used.
    """
    try:
        return _complete(loaded, progress)
    except ConfigError as error:
        raise ConfigError(f"{loaded.where}: {error}") from error


def _complete(loaded: LoadedConfig, progress: Callable[[str], None]) -> LoadedConfig:
    config = loaded.config
    discovery = config.server.discovery
    own = {} if loaded.is_demo else dict(config.api.models)
    found = Found()
    if loaded.is_discovering:
        found = find_models(discovery, loaded.folder, configured=own, progress=progress)
    models = own | found.models
    if not models and loaded.is_discovering:
        models = demo_models()
    aliases, warnings = add_aliases(
        short_names(found.names, models),
        discovery.aliases,
        models.keys() - found.models.keys(),
        found.models,
        can_be_found=loaded.is_discovering,
    )
    warnings += found.warnings
    warnings += _unknown_models(config.api.keys, models, aliases)
    api = config.api.model_copy(update={"models": models})
    return replace(
        loaded,
        config=config.model_copy(update={"api": api}),
        api_keys=[_by_id(key, aliases) for key in loaded.api_keys],
        aliases=aliases,
        found=frozenset(found.models),
        skipped=tuple(found.skipped),
        warnings=(*loaded.warnings, *warnings),
    )


def _unknown_models(
    keys: Mapping[str, KeyConfig],
    models: Mapping[str, ModelConfig],
    aliases: Mapping[str, str],
) -> list[str]:
    return [
        f"api.keys.{name}.models: there is no model {model!r} now"
        for name, table in keys.items()
        for model in table.models or ()
        if model not in models and model not in aliases
    ]


def _by_id(key: ApiKey, aliases: Mapping[str, str]) -> ApiKey:
    """``key`` with the ids of the models that its table calls by an alias."""
    if key.models is None:
        return key
    return replace(key, models=frozenset(aliases.get(name, name) for name in key.models))
