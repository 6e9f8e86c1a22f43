"""The servers that are compared: started on free ports, or found at a URL."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import psutil

from mlxnode.bench.servers import (
    MLX_LM_SERVER,
    MLXNODE,
    Server,
    free_port,
    run_mlx_lm_server,
    run_server,
)

EMBEDDING_MODEL = "all-minilm-l6-v2"


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
    port = free_port()
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
        with run_server(command, f"{url}/health", MLXNODE_STATE=scratch) as pid:
            yield Node(MLXNODE, url, "bench", pid, folder)


@contextlib.contextmanager
def start_mlx_lm_server(folder: Path) -> Iterator[LocalServer]:
    """Run mlx_lm.server until the block ends, with the model in ``folder``."""
    with run_mlx_lm_server(folder) as (url, pid):
        yield LocalServer(MLX_LM_SERVER, url, str(folder), pid)


def find_server(url: str) -> Server:
    """Describe a server that runs already; requests will go to its first model."""
    url = url.rstrip("/").removesuffix("/v1")
    models = httpx.get(f"{url}/v1/models", timeout=30).raise_for_status().json()["data"]
    return Server(url, url, models[0]["id"])
