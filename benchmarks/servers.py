"""The servers that are compared, started on free ports, and what they take of the machine."""

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

NODE, PEER = "mlxnode", "mlx_lm.server"
EMBEDDING = "all-minilm-l6-v2"

# mlx_lm.server cannot be told about the system's BLAS: without it, the CPU backend is twelve
# times slower and the comparison would be one of BLAS libraries.
_RUN_PEER = (
    "from mlxnode.engine.cpu.blas import preload_blas; preload_blas(); "
    "from mlx_lm.server import main; main()"
)


@dataclass(frozen=True)
class Server:
    """A server under test: where it listens, what it calls the model, its first process."""

    name: str
    url: str
    model: str
    folder: Path | None = None  # of the model
    pid: int | None = None  # None if it was not started here


@contextlib.contextmanager
def started(command: list[str], url: str, **environment: str) -> Iterator[int]:
    """Run ``command`` until the block ends, give its pid; it is ready when ``url`` answers."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | environment
        )
        try:
            deadline = time.monotonic() + 300
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(url, timeout=5).status_code == 200:
                        break
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def node(folder: Path, *, has_embeddings: bool = False) -> Iterator[Server]:
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config.toml"
        config.write_text(
            f'[api]\naddress = "127.0.0.1:{port}"\nrequire_auth = false\n'
            f'[api.models.bench]\npath = "{folder}"\ntype = "chat"\n'
        )
        if has_embeddings:
            with config.open("a") as file:
                file.write(
                    f'[api.models.{EMBEDDING}]\npath = "demo/{EMBEDDING}"\ntype = "embedding"\n'
                )
        command = [sys.executable, "-m", "mlxnode", "serve", "--config", str(config)]
        with started(command, f"http://127.0.0.1:{port}/health") as pid:
            yield Server(NODE, f"http://127.0.0.1:{port}", "bench", folder, pid)


@contextlib.contextmanager
def peer(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-c", _RUN_PEER, "--model", str(folder), "--port", str(port)]
    with started(command, f"http://127.0.0.1:{port}/health", HF_HUB_OFFLINE="1") as pid:
        yield Server(PEER, f"http://127.0.0.1:{port}", str(folder), folder, pid)


def other(url: str) -> Server:
    """A server that runs already; its first model is asked."""
    url = url.rstrip("/").removesuffix("/v1")
    models = httpx.get(f"{url}/v1/models", timeout=30).raise_for_status().json()["data"]
    return Server(url, url, models[0]["id"])


def resident(pid: int) -> int:
    """Bytes of memory that a process and its descendants have.

    Where the system tells (Linux), what several of them share counts once.
    """
    total = 0
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total


def cpu_seconds(pid: int) -> dict[int, float]:
    """What each process of a family has computed so far, by pid."""
    seconds = {}
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds[process.pid] = times.user + times.system
    return seconds


def _family(pid: int) -> list[psutil.Process]:
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]
