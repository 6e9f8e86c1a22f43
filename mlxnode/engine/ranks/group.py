"""The group of mlx.distributed: its variables, as ``mlx.launch`` sets them, and its start."""

import faulthandler
import json
import os
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from mlxnode import __version__
from mlxnode.config.hostfile import Hostfile
from mlxnode.config.several import DistributedConfig
from mlxnode.errors import ConfigError

if TYPE_CHECKING:
    import mlx.core as mx

# A rank that is lost in these seconds leaves the others waiting inside MLX, where no thread of
# Python runs.
INIT_SECONDS = 20


def versions() -> dict[str, str]:
    """What has to be the same on all ranks."""
    return {"mlxnode": __version__, "mlx": version("mlx"), "mlx-lm": version("mlx-lm")}


def choose_backend(config: DistributedConfig, hostfile: Hostfile) -> str:
    """``ring``, ``jaccl`` or ``jaccl-ring``.

    Raises:
        ConfigError: MLX does not have it on this machine.
    """
    import mlx.core as mx

    backend = config.backend if config.backend != "any" else hostfile.backend
    if not backend:
        has_rdma = all(len(host.rdma) == len(hostfile.hosts) for host in hostfile.hosts)
        backend = "jaccl" if has_rdma and mx.distributed.is_available("jaccl") else "ring"
    if not mx.distributed.is_available(backend.removesuffix("-ring")):
        raise ConfigError(
            f'engine.distributed.backend = "{backend}": MLX {version("mlx")} does not have '
            "this backend on this machine"
        )
    return backend


def variables(
    hostfile: Hostfile, backend: str, port: int
) -> tuple[dict[str, str], dict[str, str]]:
    """The variables of all ranks: values, and contents of the files that variables name.

    ``port`` is the first of the group: each address of each host has one for the ring.
    """
    values = dict(line.split("=", 1) for line in hostfile.envs if "=" in line)
    if backend == "ring":
        ring = []
        for host in hostfile.hosts:
            ring.append([f"{ip}:{port + i}" for i, ip in enumerate(host.ips)])
            port += len(host.ips)
        return values, {"MLX_HOSTFILE": json.dumps(ring)}
    values["MLX_JACCL_COORDINATOR"] = f"{hostfile.hosts[0].address}:{port}"
    if backend == "jaccl-ring":
        values["MLX_JACCL_RING"] = "1"
    devices = [host.rdma for host in hostfile.hosts]
    return values, {"MLX_IBV_DEVICES": json.dumps(devices)}


def join(
    rank: int, backend: str, values: Mapping[str, str], files: Mapping[str, str]
) -> "mx.distributed.Group":
    """Set the variables in this process and enter the group, once all ranks do.

    The process ends if that takes longer than ``INIT_SECONDS``.
    """
    import mlx.core as mx

    os.environ.update(values)
    os.environ["MLX_RANK"] = str(rank)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
            os.environ[name] = path
        faulthandler.dump_traceback_later(INIT_SECONDS, exit=True)
        try:
            return mx.distributed.init(strict=True, backend=backend.removesuffix("-ring"))
        finally:
            faulthandler.cancel_dump_traceback_later()
            for name in files:
                os.environ.pop(name, None)
