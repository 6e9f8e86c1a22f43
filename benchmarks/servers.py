"""The servers that are compared, started on free ports, and one streamed answer of any."""

import asyncio
import contextlib
import itertools
import json
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

# mlx_lm.server cannot be told about the system's BLAS: without it, the CPU backend is twelve
# times slower and the comparison would be one of BLAS libraries.
PEER = (
    "from mlxnode.engine.blas import preload_blas; preload_blas(); "
    "from mlx_lm.server import main; main()"
)


_RETRIES = 10


@dataclass(frozen=True)
class Server:
    """A server under test: where it listens, what it calls the model, its first process."""

    name: str
    url: str
    model: str
    pid: int


@dataclass(frozen=True)
class Answer:
    """One streamed answer. Times in seconds."""

    tokens: int
    ttft: float
    gaps: list[float]  # between chunks


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
def node(folder: Path) -> Iterator[Server]:
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config.toml"
        config.write_text(
            f'[api]\naddress = "127.0.0.1:{port}"\nrequire_auth = false\n'
            f'[api.models.bench]\npath = "{folder}"\ntype = "chat"\n'
        )
        command = [sys.executable, "-m", "mlxnode", "serve", "--config", str(config)]
        with started(command, f"http://127.0.0.1:{port}/health") as pid:
            yield Server("mlxnode", f"http://127.0.0.1:{port}", "bench", pid)


@contextlib.contextmanager
def peer(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-c", PEER, "--model", str(folder), "--port", str(port)]
    with started(command, f"http://127.0.0.1:{port}/health", HF_HUB_OFFLINE="1") as pid:
        yield Server("mlx_lm.server", f"http://127.0.0.1:{port}", str(folder), pid)


def resident(pid: int) -> int:
    """Bytes of memory that a process and its descendants have.

    Where the system tells (Linux), what several of them share counts once.
    """
    listed = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,rss="], capture_output=True, text=True, check=True
    )
    processes = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    family, total = {pid}, 0
    for child, parent, size in sorted(processes):
        if child in family or parent in family:
            family.add(child)
            total += 1024 * (_proportional(child) or size)
    return total


def _proportional(pid: int) -> int | None:
    """KiB of memory, each page divided by the number of processes that have it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return None


async def ask(
    client: httpx.AsyncClient,
    server: Server,
    text: str,
    max_tokens: int,
    begun: asyncio.Queue[float] | None = None,
    **sampling: float,
) -> Answer:
    """Stream one answer; its time to the first token is put into ``begun`` at once."""
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started_at = time.perf_counter()
    for _ in range(_RETRIES):
        # mlx_lm.server turns connections away when many come at once.
        with contextlib.suppress(httpx.TransportError):
            return await _stream(client, server, body | sampling, started_at, begun)
    return await _stream(client, server, body | sampling, started_at, begun)


async def _stream(
    client: httpx.AsyncClient,
    server: Server,
    body: dict[str, object],
    started_at: float,
    begun: asyncio.Queue[float] | None,
) -> Answer:
    arrivals, tokens = [], 0
    url = f"{server.url}/v1/chat/completions"
    async with client.stream("POST", url, json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
            if chunk.get("choices") and chunk["choices"][0]["delta"].get("content"):
                arrivals.append(time.perf_counter())
                if begun is not None and len(arrivals) == 1:
                    begun.put_nowait(arrivals[0] - started_at)
    arrivals = arrivals or [time.perf_counter()]  # an answer without words
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    return Answer(tokens, arrivals[0] - started_at, gaps)
