"""The API keys: read from the configuration, then compared by their digests."""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from mlxnode.config.tables import ApiConfig, KeyConfig
from mlxnode.errors import ConfigError

EXAMPLE_KEY = "sk-your-secret-key"  # the key in the shipped config.toml
_ID_LENGTH = 12  # hexadecimal digits


@dataclass(frozen=True)
class ApiKey:
    """An accepted key, without the key itself.

    ``id`` names the key in the log and in the ledger: the name of its ``[api.keys.<name>]``,
    else the first digits of its digest. ``models`` are the only models that the key may use;
    None allows all models. ``is_admin``: the key is for the routes of the administrator, and
    for no other. ``priority``, ``weight`` and ``allow_priority`` are those of the key's table.
    """

    id: str
    digest: bytes  # SHA-256
    models: frozenset[str] | None = None
    is_admin: bool = False
    priority: int = 0
    weight: float = 1.0
    allow_priority: bool = False

    @classmethod
    def unnamed(cls, key: str) -> "ApiKey":
        """A key without a table of its own."""
        digest = digest_of(key)
        return cls(digest.hex()[:_ID_LENGTH], digest)


class Secret(NamedTuple):
    """A key that can be told: where it stands, and the models that it may use (None: all).

    ``name`` is that of its table ``[api.keys.<name>]``.
    """

    source: str
    key: str
    name: str | None = None
    models: frozenset[str] | None = None

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


def digest_of(key: str) -> bytes:
    """The SHA-256 of a key."""
    # A key in a header may hold any bytes.
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def load_api_keys(
    api: ApiConfig, folder: Path, environ: Mapping[str, str], models: Collection[str] | None
) -> list[ApiKey]:
    """The keys of ``[api]``, of its key files, of the environment and of ``[api.keys]``.

    Relative paths are relative to ``folder``. The tables of the keys may name ``models`` only;
    None: any.

    Raises:
        ConfigError: a key is unreadable, unusable or given twice, or there is no key.
    """
    keys: dict[bytes, ApiKey] = {}
    sources: dict[bytes, str] = {}
    for source, secret in _unnamed_keys(api, folder, environ):
        key = ApiKey.unnamed(_check_secret(secret, source))
        keys[key.digest] = key
        sources[key.digest] = source
    for name, table in api.keys.items():
        source = f"api.keys.{_check_name(name)}"
        _check_models(table, source, models)
        allowed = None if table.models is None else frozenset(table.models)
        for digest in _digests_of_table(table, source, folder):
            if digest in keys:
                raise ConfigError(f"{source}: the same key as {sources[digest]}")
            keys[digest] = ApiKey(
                name,
                digest,
                allowed,
                priority=table.priority,
                weight=table.weight,
                allow_priority=table.allow_priority,
            )
            sources[digest] = source
    _check_there_is_a_key(api, keys)
    return [*keys.values(), *_admin_keys(api, folder, environ, sources)]


def readable_keys(api: ApiConfig, folder: Path, environ: Mapping[str, str]) -> Iterator[Secret]:
    """The keys of requests that are not known by their digest alone.

    Raises:
        ConfigError: a key file cannot be read.
    """
    for source, key in _unnamed_keys(api, folder, environ):
        yield Secret(source, key)
    for name, table in api.keys.items():
        models = None if table.models is None else frozenset(table.models)
        # While a key is replaced, the file has the old one and the new one.
        secrets = list(_read_secrets(f"api.keys.{name}.key", table.key, table.key_file, folder))
        for source, key in secrets[-1:]:
            yield Secret(source, key, name, models)


def readable_admin_keys(
    api: ApiConfig, folder: Path, environ: Mapping[str, str]
) -> Iterator[Secret]:
    """The administrator's keys; the same errors."""
    yield from (
        Secret(source, key)
        for source, key in _read_secrets(
            "api.admin_key", api.admin_key, api.admin_key_file, folder
        )
    )
    if "MLXNODE_ADMIN_KEY" in environ:
        yield Secret("$MLXNODE_ADMIN_KEY", environ["MLXNODE_ADMIN_KEY"])


def _admin_keys(
    api: ApiConfig, folder: Path, environ: Mapping[str, str], sources: Mapping[bytes, str]
) -> list[ApiKey]:
    """``sources`` are those of the other keys, by digest."""
    keys: dict[bytes, ApiKey] = {}
    secrets = list(_read_secrets("api.admin_key", api.admin_key, api.admin_key_file, folder))
    if api.admin_key_file is not None and not any("file" in source for source, _ in secrets):
        raise ConfigError(
            f'api.admin_key_file = "{api.admin_key_file}": expected a line with a key'
        )
    if "MLXNODE_ADMIN_KEY" in environ:
        secrets.append(("$MLXNODE_ADMIN_KEY", environ["MLXNODE_ADMIN_KEY"]))
    for source, secret in secrets:
        digest = digest_of(_check_secret(secret, source))
        if digest in sources:
            raise ConfigError(f"{source}: the same key as {sources[digest]}")
        keys[digest] = ApiKey(f"admin-{digest.hex()[:_ID_LENGTH]}", digest, is_admin=True)
    return list(keys.values())


def _check_there_is_a_key(api: ApiConfig, keys: Mapping[bytes, ApiKey]) -> None:
    if api.require_auth and not keys:
        raise ConfigError(
            "api.require_auth = true, but there is no key: set api.api_key, "
            "api.api_key_file, api.keys.<name> or MLXNODE_API_KEY"
        )


def _unnamed_keys(
    api: ApiConfig, folder: Path, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Pairs of a source and a key."""
    yield from _read_secrets("api.api_key", api.api_key, api.api_key_file, folder)
    if "MLXNODE_API_KEY" in environ:
        yield "$MLXNODE_API_KEY", environ["MLXNODE_API_KEY"]


def _digests_of_table(table: KeyConfig, source: str, folder: Path) -> list[bytes]:
    """One digest; several if the file holds the next key beside the one that it replaces."""
    if table.sha256 is not None:
        digest = bytes.fromhex(table.sha256)
        if digest == digest_of(""):  # $KEY was not set; a request without a key would match
            raise ConfigError(f"{source}.sha256: this is the SHA-256 of nothing")
        return [digest]
    secrets = _read_secrets(f"{source}.key", table.key, table.key_file, folder)
    digests = [digest_of(_check_secret(secret, source)) for source, secret in secrets]
    if not digests:
        raise ConfigError(f'{source}.key_file = "{table.key_file}": expected a line with a key')
    return list(dict.fromkeys(digests))


def _read_secrets(
    name: str, key: SecretStr | None, key_file: str | None, folder: Path
) -> Iterator[tuple[str, str]]:
    """Pairs of a source and a key: the values of the keys ``name`` and ``<name>_file``."""
    if key is not None:
        yield name, key.get_secret_value()
    if key_file is not None:
        for line in _read_lines(key_file, f"{name}_file", folder):
            yield f"{name}_file", line


def _read_lines(name: str, source: str, folder: Path) -> list[str]:
    """The lines of a key file, without empty ones."""
    try:
        lines = (folder / Path(name).expanduser()).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{source} = "{name}": cannot be read') from error
    return [line.strip() for line in lines if line.strip()]


def _check_secret(key: str, source: str) -> str:
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(f"{source}: expected printable ASCII without spaces, not empty")
    return key


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[\w.@-]{1,64}", name, re.ASCII):
        raise ConfigError(
            f"api.keys.{json.dumps(name)}: expected a name of at most 64 letters, digits "
            "and _ . @ -"
        )
    return name


def _check_models(table: KeyConfig, source: str, models: Collection[str] | None) -> None:
    for model in table.models or []:
        if models is not None and model not in models:
            known = ", ".join(models) or "none"
            raise ConfigError(
                f"{source}.models: no model is called {model!r}; there are {known}"
            )
