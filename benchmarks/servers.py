"""The servers that are compared: started on free ports, or found at a URL."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import psutil

MLXNODE, MLX_LM_SERVER = "mlxnode", "mlx_lm.server"
EMBEDDING_MODEL = "all-minilm-l6-v2"
_START_TIMEOUT = 300  # seconds

# mlx_lm.server has no option for the system's BLAS. Without it, the CPU backend is twelve
# times slower, and the benchmark would compare BLAS libraries.
_RUN_MLX_LM_SERVER = (
    "from mlxnode.engine.cpu.blas import preload_blas; preload_blas(); "
    "from mlx_lm.server import main; main()"
)


@dataclass(frozen=True)
class Server:
    """A server that is compared; ``model`` is its name for the model."""

    name: str
    url: str
    model: str


@dataclass(frozen=True)
class LocalServer(Server):
    """A server that the benchmark started; ``pid`` is its first process."""

    pid: int

    def resident_bytes(self) -> int:
        """The memory of all processes of the server.

        On Linux, memory that several processes share counts once.
        """
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.rss)
        return total

    def cpu_seconds(self) -> dict[int, float]:
        """The CPU time of each process of the server so far, by pid."""
        seconds = {}
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds[process.pid] = times.user + times.system
        return seconds

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]


@dataclass(frozen=True)
class Node(LocalServer):
    """A started mlxnode; ``folder`` holds the model."""

    folder: Path


@contextlib.contextmanager
def start_node(
    folder: Path,
    *,
    has_embeddings: bool = False,
    access: str = "require_auth = false",
    tables: str = "",
) -> Iterator[Node]:
    """Run mlxnode until the block ends, with the chat model in ``folder``.

    ``access`` are lines of ``[api]``, ``tables`` further tables of the configuration.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config.toml"
        config.write_text(
            f'[api]\naddress = "127.0.0.1:{port}"\n{access}\n'
            f'[api.models.bench]\npath = "{folder}"\ntype = "chat"\n{tables}'
        )
        if has_embeddings:
            with config.open("a") as file:
                file.write(
                    f"[api.models.{EMBEDDING_MODEL}]\n"
                    f'path = "demo/{EMBEDDING_MODEL}"\ntype = "embedding"\n'
                )
        command = [sys.executable, "-m", "mlxnode", "serve", "--config", str(config)]
        url = f"http://127.0.0.1:{port}"
        # Not in the user's own figures.
        with _run(command, f"{url}/health", MLXNODE_STATE=scratch) as pid:
            yield Node(MLXNODE, url, "bench", pid, folder)


@contextlib.contextmanager
def start_mlx_lm_server(folder: Path) -> Iterator[LocalServer]:
    """Run mlx_lm.server until the block ends, with the model in ``folder``."""
    port = _free_port()
    command = [sys.executable, "-c", _RUN_MLX_LM_SERVER]
    command += ["--model", str(folder), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with _run(command, f"{url}/health", HF_HUB_OFFLINE="1") as pid:
        yield LocalServer(MLX_LM_SERVER, url, str(folder), pid)


def find_server(url: str) -> Server:
    """Describe a server that runs already; requests will go to its first model."""
    url = url.rstrip("/").removesuffix("/v1")
    models = httpx.get(f"{url}/v1/models", timeout=30).raise_for_status().json()["data"]
    return Server(url, url, models[0]["id"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _run(command: list[str], health_url: str, **environment: str) -> Iterator[int]:
    """Run ``command`` until the block ends; give its pid when ``health_url`` returns 200."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | environment
        )
        try:
            deadline = time.monotonic() + _START_TIMEOUT
            while not _is_healthy(health_url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command} did not start:\n{log.read().decode()}")
                time.sleep(0.2)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
