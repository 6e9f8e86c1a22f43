"""The API keys: read from the configuration, and from then on held as digests only."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlxnode.config.tables import ApiConfig, KeyConfig
from mlxnode.errors import ConfigError

EXAMPLE_KEY = "sk-your-secret-key"  # the one in the shipped config.toml
_ID_LENGTH = 12  # hexadecimal digits


@dataclass(frozen=True)
class ApiKey:
    """What is known of an accepted key, without the key itself.

    ``id`` stands for it in the log and in the ledger: the name of its ``[api.keys.<name>]``,
    else the beginning of its digest. ``models`` are the only ones it may use; None is all.
    """

    id: str
    digest: bytes  # SHA-256
    models: frozenset[str] | None = None

    @classmethod
    def unnamed(cls, key: str) -> "ApiKey":
        """A key that has no table of its own."""
        digest = digest_of(key)
        return cls(digest.hex()[:_ID_LENGTH], digest)


def digest_of(key: str) -> bytes:
    # Headers may hold any bytes.
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def load_api_keys(api: ApiConfig, folder: Path, environ: Mapping[str, str]) -> list[ApiKey]:
    """The single key, those of the key file and of the environment, and ``[api.keys]``.

    Relative paths are relative to ``folder``.

    Raises:
        ConfigError: naming a key that is unreadable, unusable or given twice; or no key.
    """
    keys: dict[bytes, ApiKey] = {}
    sources: dict[bytes, str] = {}
    for source, secret in _unnamed_keys(api, folder, environ):
        key = ApiKey.unnamed(_check(secret, source))
        keys[key.digest] = key
        sources[key.digest] = source
    for name, table in api.keys.items():
        source = f"api.keys.{_check_name(name)}"
        digest = _digest_of_table(table, source, folder)
        if digest in keys:
            raise ConfigError(f"{source}: the same key as {sources[digest]}")
        _check_models(table, source, api)
        keys[digest] = ApiKey(name, digest, table.models and frozenset(table.models))
        sources[digest] = source
    if api.require_auth and not keys:
        raise ConfigError(
            "api.require_auth = true, but there is no key: set api.api_key, "
            "api.api_key_file, api.keys.<name> or MLXNODE_API_KEY"
        )
    return list(keys.values())


def _unnamed_keys(
    api: ApiConfig, folder: Path, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Where each is from, and the key."""
    if api.api_key is not None:
        yield "api.api_key", api.api_key.get_secret_value()
    if api.api_key_file is not None:
        for line in _read_lines(api.api_key_file, "api.api_key_file", folder):
            yield "api.api_key_file", line
    if "MLXNODE_API_KEY" in environ:
        yield "$MLXNODE_API_KEY", environ["MLXNODE_API_KEY"]


def _digest_of_table(table: KeyConfig, source: str, folder: Path) -> bytes:
    if table.sha256 is not None:
        digest = bytes.fromhex(table.sha256)
        if digest == digest_of(""):  # $KEY was not set; no key at all would match
            raise ConfigError(f"{source}.sha256: this is the SHA-256 of nothing")
        return digest
    if table.key is not None:
        return digest_of(_check(table.key.get_secret_value(), f"{source}.key"))
    source = f"{source}.key_file"
    lines = _read_lines(table.key_file, source, folder)
    if len(lines) != 1:
        raise ConfigError(
            f'{source} = "{table.key_file}": expected one line with the key, got {len(lines)}'
        )
    return digest_of(_check(lines[0], source))


def _read_lines(name: str, source: str, folder: Path) -> list[str]:
    """The lines of a key file, without empty ones."""
    try:
        lines = (folder / Path(name).expanduser()).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{source} = "{name}": cannot be read') from error
    return [line.strip() for line in lines if line.strip()]


def _check(key: str, source: str) -> str:
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


def _check_models(table: KeyConfig, source: str, api: ApiConfig) -> None:
    for model in table.models or []:
        if model not in api.models:
            known = ", ".join(api.models) or "none"
            raise ConfigError(
                f"{source}.models: no model is called {model!r}; there are {known}"
            )
