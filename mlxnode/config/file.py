"""The configuration file: find, read and check it, with error messages for the user."""

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

import tomli
from pydantic import BaseModel, ValidationError

from mlxnode.config.certificate import Certificate, load_certificate
from mlxnode.config.demo import demo_models, demo_tables
from mlxnode.config.distributed import placed_engine
from mlxnode.config.exposure import check_address, check_files, secret_files
from mlxnode.config.keys import ApiKey, load_api_keys
from mlxnode.config.place import find_config
from mlxnode.config.tables import NodeConfig
from mlxnode.errors import ConfigError


@dataclass(frozen=True)
class ConfigSource:
    """The origin of a configuration: a file, or None for the demo models."""

    file: Path | None

    @property
    def where(self) -> str:
        """The name of the configuration in messages."""
        return str(self.file or "demo configuration")

    @property
    def folder(self) -> Path:
        """The folder that relative paths are relative to."""
        return self.file.parent if self.file else Path.cwd()


class Skipped(NamedTuple):
    """A folder or a file on the disk that looks like a model and is not served."""

    id: str  # that it would have
    path: Path
    reason: str


@dataclass(frozen=True)
class LoadedConfig(ConfigSource):
    """A valid configuration, with its address parsed, its keys and its certificate read.

    ``warnings`` say what is allowed and unwise. ``aliases``, ``found`` and ``skipped`` are
    about the models on the disk, once ``models.discovery`` has looked there: more names of
    models, the ids of those without a table in the file, and what is not served.
    """

    config: NodeConfig
    host: str
    port: int
    api_keys: list[ApiKey]
    certificate: Certificate | None = None
    warnings: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)  # name -> id
    is_discovering: bool = False  # models are served without a table of their own
    found: frozenset[str] = frozenset()
    skipped: tuple[Skipped, ...] = ()

    @property
    def is_demo(self) -> bool:
        """True if no file and no command line names a model."""
        return _is_demo(self, self.config)

    @property
    def files(self) -> list[Path]:
        """The files of the configuration: a change of them counts while the node runs."""
        api = self.config.api
        names = [*secret_files(api).values(), api.tls_certificate]
        files = [self.folder / Path(name).expanduser() for name in names if name is not None]
        return [self.file, *files] if self.file is not None else files


def load_config(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> LoadedConfig:
    """Load ``path``, else the first file found, else the configuration of the demo models.

    ``overrides`` are values of the command line by key (``"api.address"``). None does not
    override.

    Raises:
        ConfigError: one line for each error.
    """
    source = ConfigSource(path or find_config(environ))
    tables = _read(source.file) if source.file else demo_tables()
    _override(tables, overrides or {})
    config = _validate(tables, source.where)
    try:
        host, port = parse_address(config.api.address)
        enabled = config.server.discovery.enabled
        has_models = bool(config.api.models) and not _is_demo(source, config)
        is_discovering = not has_models if enabled is None else enabled
        # A model that a key names can be found on the disk, and later.
        names = [*config.api.models, *config.server.discovery.aliases]
        keys = load_api_keys(
            config.api, source.folder, environ, None if is_discovering else names
        )
        certificate = load_certificate(config.api, source.folder)
        check_address(config.api, source.file, host, keys)
        warnings = check_files(config, source.file, source.folder, host)
    except ConfigError as error:
        raise ConfigError(f"{source.where}: {error}") from error
    config = _with_absolute_files(config, source)
    return LoadedConfig(
        source.file,
        config,
        host,
        port,
        keys,
        certificate,
        tuple(warnings),
        is_discovering=is_discovering,
    )


def _is_demo(source: ConfigSource, config: NodeConfig) -> bool:
    return source.file is None and config.api.models == demo_models()


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``; IPv6 hosts stand in brackets.

    Raises:
        ConfigError: the address has another notation.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not (colon and host and re.fullmatch(r"\d{1,5}", port, re.ASCII) and int(port) < 65536):
        raise ConfigError(
            f'api.address = "{address}": expected "host:port" with a port from 0 '
            'to 65535, as "127.0.0.1:8080" or "[::1]:8080"'
        )
    return host, int(port)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomli.loads(file.read_bytes().decode())
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: cannot be read: it is not UTF-8 text") from error


def _override(tables: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        table, _, name = key.partition(".")
        # If the value is not a table, the validation reports the error.
        if value is not None and isinstance(tables.setdefault(table, {}), dict):
            tables[table][name] = value


def _validate(tables: dict[str, Any], where: str) -> NodeConfig:
    try:
        return NodeConfig.model_validate(tables)
    except ValidationError as error:
        lines = [f"{where}: {_explain(details)}" for details in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _with_absolute_files(config: NodeConfig, source: ConfigSource) -> NodeConfig:
    """``config`` with the files that a node writes as absolute paths, for all processes.

    Raises:
        ConfigError: a path begins with the home folder of nobody.
    """
    files = {}
    for name in ("usage_file", "request_log_file"):
        if file := getattr(config.server, name):
            try:
                files[name] = str((source.folder / Path(file).expanduser()).absolute())
            except RuntimeError as error:
                raise ConfigError(f"{source.where}: server.{name}: {error}") from error
    server = config.server.model_copy(update=files)
    engine = placed_engine(config.engine, source.folder, source.where)
    return config.model_copy(update={"server": server, "engine": engine})


def _explain(error: Mapping[str, Any]) -> str:
    """One pydantic error in one line: key, value, expected value."""
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
    is_secret = is_secret or location[-1] == "redis"  # a URL with a password
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
