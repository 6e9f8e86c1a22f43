"""The hostfile of MLX: the machines of one engine, checked before anything is started.

Its format is that of ``mlx.launch``: a list of hosts, or a table that has a backend and
variables of the environment as well.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlxnode.config.several import DistributedConfig
from mlxnode.errors import ConfigError

LaunchBackend = Literal["", "ring", "jaccl", "jaccl-ring", "mpi"]


class Host(BaseModel):
    """One machine: the name for ssh, its addresses, and its RDMA device towards each host."""

    model_config = ConfigDict(strict=True)

    ssh: str = Field(min_length=1)
    ips: list[str] = []
    rdma: list[str | list[str] | None] = []

    @property
    def address(self) -> str:
        """Where other ranks reach it."""
        return self.ips[0] if self.ips else self.ssh


class Hostfile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(strict=True)

    hosts: list[Host] = Field(min_length=2)
    backend: LaunchBackend = ""  # "": the file does not say
    envs: list[str] = []  # "NAME=value", for all ranks

    def describe(self, rank: int) -> str:
        """``rank`` in messages."""
        return f"rank {rank} ({self.hosts[rank].ssh})"


def read_hostfile(config: DistributedConfig) -> Hostfile:
    """The hosts of ``config``; the first one is this machine.

    Raises:
        ConfigError: the file is not there, is malformed, or does not go with the backend.
    """
    where = f'engine.distributed.hostfile = "{config.hostfile}"'
    try:
        data: Any = json.loads(Path(config.hostfile).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{where}: not valid JSON: {error}") from error
    hosts = {"hosts": data} if isinstance(data, list) else data
    try:
        file = Hostfile.model_validate(hosts)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from None
    backend = config.backend if config.backend != "any" else file.backend
    _check_backend(where, file, backend)
    return file


def _check_backend(where: str, file: Hostfile, backend: str) -> None:
    if backend == "mpi":
        raise ConfigError(
            f"{where}: the backend mpi needs mpirun to start all ranks, and the engine of a "
            'node is started by the node: use "ring" or "jaccl"'
        )
    for rank, host in enumerate(file.hosts):
        if backend in ("ring", "") and not host.ips:
            raise ConfigError(f"{where}: hosts.{rank}.ips: the ring needs an address")
        if backend.startswith("jaccl") and len(host.rdma) != len(file.hosts):
            raise ConfigError(
                f"{where}: hosts.{rank}.rdma: expected one RDMA device for each of the "
                f"{len(file.hosts)} hosts (null for itself), got {len(host.rdma)}"
            )


def _explain(error: ValidationError) -> str:
    details = error.errors()[0]
    key = ".".join(str(part) for part in details["loc"]) or "the file"
    if details["loc"] == ("hosts",) and details["type"] == "too_short":
        return "hosts: one engine over several machines needs at least two hosts"
    return f"{key}: {details['msg'][0].lower()}{details['msg'][1:]}"
