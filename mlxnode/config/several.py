"""The tables for several machines: one model over all of them, limits of several nodes."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from mlxnode.config.table import Table

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
