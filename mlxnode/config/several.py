"""The tables for several machines: one model over all of them, limits of several nodes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from mlxnode.config.table import Table
from mlxnode.errors import ConfigError

# How a model is spread over the ranks; "none": the first machine has all of it.
Strategy = Literal["tensor", "pipeline", "none"]
DistributedBackend = Literal["ring", "jaccl", "mpi", "any"]  # of MLX


class DistributedConfig(Table):
    """``[engine.distributed]``: one engine over several machines, with mlx.distributed."""

    hostfile: str  # in the format of mlx.launch; the first host is this machine
    backend: DistributedBackend = "any"
    strategy: Strategy = "tensor"  # of models that say nothing else, where they allow it
    launch: bool = True  # start the other ranks with mlx.launch; False: by hand
    # The first of the ports on which the ranks reach each other: plans, then MLX's own.
    port: Annotated[int, Field(ge=1, le=65_000)] = 32_323
    key: SecretStr | None = None  # that other ranks show; None: a new one for each launch
    key_file: str | None = None
    start_timeout: Annotated[float, Field(gt=0)] = 60.0  # seconds until all ranks are there


def engine_key(
    config: DistributedConfig | None, environ: Mapping[str, str] = os.environ
) -> str | None:
    """The key of the ranks: ``key``, ``key_file`` or $MLXNODE_ENGINE_KEY; None: there is none.

    Raises:
        ConfigError: the file cannot be read, or is empty.
    """
    if config is not None and config.key is not None:
        return config.key.get_secret_value()
    if config is None or config.key_file is None:
        return environ.get("MLXNODE_ENGINE_KEY", "").strip() or None
    where = f'engine.distributed.key_file = "{config.key_file}"'
    try:
        key = Path(config.key_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read: {error}") from error
    if not key:
        raise ConfigError(f"{where}: the file is empty")
    return key


def _check_redis(url: SecretStr) -> SecretStr:
    """The URL may hold a password, so that errors do not repeat it."""
    expected = "expected redis://host:port/number, rediss:// (TLS) or unix:///path of a socket"
    try:
        parts = urlsplit(url.get_secret_value())
        _ = parts.port
    except ValueError:
        raise ValueError(expected) from None
    is_socket = parts.scheme == "unix" and parts.path
    if not (is_socket or (parts.scheme in ("redis", "rediss") and parts.hostname)):
        raise ValueError(expected)
    number = parts.path.strip("/")
    if not is_socket and number and not number.isdecimal():
        raise ValueError(expected)
    return url


class SharedLimitsConfig(Table):
    """``[server.shared_limits]``: the rate limits of several nodes, counted together."""

    # A URL, maybe with a password; None: each node counts for itself.
    redis: Annotated[SecretStr, AfterValidator(_check_redis)] | None = None
    prefix: Annotated[str, Field(min_length=1)] = "mlxnode"  # of all names in Redis
    # What happens to requests while Redis does not answer.
    when_unreachable: Literal["allow", "refuse"] = "allow"
    timeout: Annotated[float, Field(gt=0)] = 0.5  # seconds for one answer of Redis
