"""The servers that are compared, and how one is run for as long as a measurement lasts."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx

from mlxnode.client.endpoint import Endpoint
from mlxnode.errors import NodeError

MLXNODE, MLX_LM_SERVER = "mlxnode", "mlx_lm.server"
_START_TIMEOUT = 300  # seconds
_END_TIMEOUT = 30
_LAST_BYTES = 2000  # of what a server has written that did not start

# mlx_lm.server has no option for the system's BLAS. Without it, the CPU backend is twelve
# times slower, and the benchmark would compare BLAS libraries.
_RUN_MLX_LM_SERVER = (
    "from mlxnode.engine.cpu.blas import preload_blas; preload_blas(); "
    "from mlx_lm.server import main; main()"
)


class BenchError(NodeError):
    """A measurement cannot be made."""


@dataclass(frozen=True)
class Server:
    """A server that is compared; ``model`` is its name for the model.

    ``endpoint`` has its key and its certificate, if it needs any.
    """

    name: str
    url: str
    model: str
    endpoint: Endpoint | None = field(default=None, kw_only=True)

    def make_client(self) -> httpx.AsyncClient:
        """A client without limits of its own."""
        endpoint = self.endpoint or Endpoint(self.url)
        headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        return httpx.AsyncClient(
            headers=headers,
            verify=endpoint.verification(),
            timeout=600,
            limits=httpx.Limits(max_connections=None),
            trust_env=not endpoint.is_local,
        )


@contextlib.contextmanager
def run_mlx_lm_server(folder: Path) -> Iterator[tuple[str, int]]:
    """Run mlx_lm.server until the block ends, with the model in ``folder``; its URL and pid.

    Raises:
        BenchError: it does not start.
    """
    port = free_port()
    command = [sys.executable, "-c", _RUN_MLX_LM_SERVER]
    command += ["--model", str(folder), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with run_server(command, f"{url}/health", HF_HUB_OFFLINE="1") as pid:
        yield url, pid


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def run_server(command: list[str], health_url: str, **environment: str) -> Iterator[int]:
    """Run ``command`` until the block ends; give its pid when ``health_url`` returns 200.

    Raises:
        BenchError: it ends before, or takes too long.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | environment
        )
        try:
            deadline = time.monotonic() + _START_TIMEOUT
            while not _is_healthy(health_url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    written = log.read()[-_LAST_BYTES:].decode(errors="replace")
                    raise BenchError(f"{' '.join(command)} did not start:\n{written}")
                time.sleep(0.2)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_END_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
