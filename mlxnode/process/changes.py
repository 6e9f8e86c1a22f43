"""What is new in a configuration that was read again, in words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlxnode.config.file import LoadedConfig
from mlxnode.config.tables import ApiConfig, NodeConfig, RateLimits
from mlxnode.models.served import ServedModel

# What counts at once, by table; everything else counts at the next start.
_AT_RUN_TIME = {
    "api": {
        *("api_key", "api_key_file", "admin_key", "admin_key_file", "keys"),
        *("tls_certificate", "tls_key", "cors_enabled", "cors_origins", "models"),
        *RateLimits.model_fields,
    },
    "server": {"discovery"},
    "engine": set(),
}


@dataclass(frozen=True)
class NodeModels:
    """The models of a configuration: described, or failed with reasons; and their aliases."""

    models: list[ServedModel] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


def at_run_time(start: NodeConfig, now: NodeConfig) -> NodeConfig:
    """``start`` with what counts at once of ``now``."""
    tables = {}
    for name, keys in _AT_RUN_TIME.items():
        new = {key: getattr(getattr(now, name), key) for key in keys}
        tables[name] = getattr(start, name).model_copy(update=new)
    return start.model_copy(update=tables)


def changed_ids(before: NodeModels, after: NodeModels) -> list[str]:
    """The models that are served in another way than before, or were not described before."""
    old = {model.id: model for model in before.models}
    return [model.id for model in after.models if old.get(model.id) != model]


def changes(before: LoadedConfig, after: LoadedConfig, start: NodeConfig) -> Iterator[str]:
    """What is new but for the models, without a key.

    ``start`` is the configuration that the node was started with.
    """
    old, new = ({key.digest: key for key in it.api_keys} for it in (before, after))
    yield from _listed("new keys", {key.id for digest, key in new.items() if digest not in old})
    yield from _listed(
        "keys without access", {key.id for digest, key in old.items() if digest not in new}
    )
    yield from _listed(
        "keys with other rights",
        {key.id for digest, key in new.items() if digest in old and key != old[digest]},
    )
    api, new_api = before.config.api, after.config.api
    if _limits_of(api) != _limits_of(new_api):
        yield "other rate limits"
    if _origins_of(api) != _origins_of(new_api):
        yield f"origins of web pages: {', '.join(_origins_of(new_api)) or 'none'}"
    if (before.certificate is None) != (after.certificate is None):
        yield "TLS is switched on or off at the next start"
    elif before.certificate != after.certificate:
        yield "a new certificate"
    for skipped in after.skipped:
        if skipped not in before.skipped:
            yield f"{skipped.path} is not served: {skipped.reason}"
    if set(_waiting(before.config, after.config)):
        yield from _listed("at the next start", set(_waiting(start, after.config)))


def model_changes(before: NodeModels, after: NodeModels) -> Iterator[str]:
    """What is new about the models."""
    old = {model.id: model for model in before.models}
    new = {model.id: model for model in after.models}
    known = old.keys() | before.failed.keys()
    yield from _listed("new models", new.keys() - known)
    yield from _listed("models that are gone", known - new.keys() - after.failed.keys())
    yield from _listed("changed models", {id for id in new if id in old and old[id] != new[id]})
    yield from _listed("models that are served again", new.keys() & before.failed.keys())
    for id, reason in after.failed.items():
        if before.failed.get(id) != reason:
            yield f"model {id} cannot be served: {reason}"
    if dict(before.aliases) != dict(after.aliases):
        yield from _aliases(before.aliases, after.aliases)


def _aliases(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    new = {name for name, id in after.items() if before.get(name) != id}
    yield from _listed("new aliases", new)
    yield from _listed("aliases that are gone", before.keys() - after.keys())


def _listed(what: str, names: Any) -> Iterator[str]:
    if names:
        yield f"{what}: {', '.join(sorted(names))}"


def _limits_of(api: ApiConfig) -> list[tuple[str, object, object]]:
    tables = {"": api} | {f"k {name}": table for name, table in api.keys.items()}
    tables |= {f"m {id}": table for id, table in api.models.items()}
    return [
        (name, table.max_requests_per_minute, table.max_tokens_per_minute)
        for name, table in tables.items()
        if table.has_limits
    ]


def _origins_of(api: ApiConfig) -> list[str]:
    return api.cors_origins if api.cors_enabled else []


def _waiting(before: NodeConfig, after: NodeConfig) -> Iterator[str]:
    """The keys whose new value counts at the next start only."""
    for name, keys in _AT_RUN_TIME.items():
        old, new = getattr(before, name), getattr(after, name)
        for key in type(old).model_fields:
            if key not in keys and getattr(old, key) != getattr(new, key):
                yield f"{name}.{key}"
