"""Finding, reading and checking the configuration file, with errors a person can act on."""

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import tomli
from pydantic import BaseModel, ValidationError

from mlxnode.config.keys import EXAMPLE_KEY, ApiKey, digest_of, load_api_keys
from mlxnode.config.tables import ApiConfig, NodeConfig
from mlxnode.errors import ConfigError


@dataclass(frozen=True)
class LoadedConfig:
    """A valid configuration, with what its values lead to."""

    config: NodeConfig
    file: Path | None  # None: the demo models
    host: str
    port: int
    api_keys: list[ApiKey]

    @property
    def where(self) -> str:
        """Its name in messages."""
        return str(self.file or "demo configuration")

    @property
    def folder(self) -> Path:
        """What relative paths are relative to."""
        return self.file.parent if self.file else Path.cwd()


def load_config(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> LoadedConfig:
    """Load ``path``, else the first file found, else the configuration of the demo models.

    ``overrides`` are values of the command line by key (``"api.address"``); None is no
    override.

    Raises:
        ConfigError: one line for each thing that is wrong.
    """
    file = path or find_config(environ)
    where = str(file or "demo configuration")
    if file is None:
        from mlxnode.models.resolve import demo_config

        tables = demo_config().model_dump(exclude_unset=True)
    else:
        tables = _read(file)
    for key, value in (overrides or {}).items():
        table, _, name = key.partition(".")
        # What is no table is left for the validation to complain about.
        if value is not None and isinstance(tables.setdefault(table, {}), dict):
            tables[table][name] = value
    try:
        config = NodeConfig.model_validate(tables)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(f"{where}: {_explain(e)}" for e in error.errors())
        ) from None
    host, port = parse_address(config.api.address, where)
    try:
        keys = load_api_keys(config.api, file.parent if file else Path.cwd(), environ)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    _check_exposure(config.api, file, host, keys, where)
    return LoadedConfig(config, file, host, port, keys)


def find_config(environ: Mapping[str, str]) -> Path | None:
    """The file to load when none is named on the command line."""
    if named := environ.get("MLXNODE_CONFIG"):
        return Path(named).expanduser()
    places = [Path("config.toml"), Path("~/.config/mlxnode/config.toml").expanduser()]
    return next((place.absolute() for place in places if place.is_file()), None)


def parse_address(address: str, where: str) -> tuple[str, int]:
    """Host and port of ``host:port``; IPv6 hosts stand in brackets."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not (colon and host and re.fullmatch(r"\d{1,5}", port, re.ASCII) and int(port) < 65536):
        raise ConfigError(
            f'{where}: api.address = "{address}": expected "host:port" with a port from 0 '
            'to 65535, as "127.0.0.1:8080" or "[::1]:8080"'
        )
    return host, int(port)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomli.loads(file.read_bytes().decode())
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: cannot be read: it is not UTF-8 text") from error


def _explain(error: Any) -> str:
    """One pydantic error in a line: key, value, what was expected."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(
        part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part)
        for part in location
    )
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{key}: missing"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    is_secret = len(location) > 1 and location[0] == "api" and "key" in location[1]
    if is_secret or isinstance(error["input"], dict):
        return f"{key}: {message}"
    return f"{key} = {error['input']!r}: {message}"


def _known_keys(location: list[str]) -> list[str]:
    """The keys of the table at ``location``."""
    table: Any = NodeConfig
    for part in location:
        if isinstance(table, type) and issubclass(table, BaseModel):
            table = table.model_fields[part].annotation
        else:  # dict[str, Table]: any name is a key
            table = get_args(table)[1]
    return list(table.model_fields)


def _check_exposure(
    api: ApiConfig, file: Path | None, host: str, keys: list[ApiKey], where: str
) -> None:
    """What can be reached from other machines needs a key of its own, or a written no."""
    if is_loopback(host):
        return
    if file is None:
        raise ConfigError(
            f'{where}: api.address = "{api.address}" can be reached from other machines: '
            "write a configuration file with a key, or with require_auth = false"
        )
    if api.require_auth and digest_of(EXAMPLE_KEY) in [key.digest for key in keys]:
        raise ConfigError(
            f"{where}: the key is still the example's, and api.address = "
            f'"{api.address}" can be reached from other machines: choose a key of your own'
        )
