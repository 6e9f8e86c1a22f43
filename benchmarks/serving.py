"""Throughput and latency over HTTP, beside mlx_lm.server on the same model in the same run.

Both servers are started on free ports of the loopback interface and loaded in turn, round
after round, so that whatever else the machine does hits both. Only ratios mean anything.

    python benchmarks/serving.py --streams 1 16 --rounds 3 --json result.json
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2 as httpx

from mlxnode.models.demo import fetch_demo_model
from mlxnode.models.gguf import model_folder

WORDS = "the river runs past an old mill where people meet on market days to talk"
# mlx_lm.server cannot be told about the system's BLAS: without it, the CPU backend is twelve
# times slower and the comparison would be one of BLAS libraries.
PEER = (
    "from mlxnode.engine.blas import preload_blas; preload_blas(); "
    "from mlx_lm.server import main; main()"
)


@dataclass(frozen=True)
class Server:
    """A server under test: where it listens, and what it calls the model."""

    name: str
    url: str
    model: str


@dataclass(frozen=True)
class Result:
    """One load on one server. Times in seconds."""

    server: str
    streams: int
    tokens_per_second: float
    ttft_median: float
    itl_p95: float
    failed: int


@contextlib.contextmanager
def started(command: list[str], url: str, **environment: str) -> Iterator[None]:
    """Run ``command`` until the block ends; it is ready when ``url`` answers."""
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
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def export(gguf: Path, folder: Path) -> Path:
    """The model as a folder that both servers can load, in the CPU backend's float32."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from mlxnode.config import ModelConfig, NodeConfig
    from mlxnode.engine.loader import load_generation_model
    from mlxnode.models.resolve import resolve_models

    shutil.copytree(model_folder(gguf), folder)
    config = NodeConfig(api={"models": {"bench": ModelConfig(path=str(gguf), type="chat")}})
    model = load_generation_model(*resolve_models(config, print))
    mx.save_safetensors(
        str(folder / "model.safetensors"),
        dict(tree_flatten(model.parameters())),
        metadata={"format": "mlx"},
    )
    return folder


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
        with started(command, f"http://127.0.0.1:{port}/health"):
            yield Server("mlxnode", f"http://127.0.0.1:{port}", "bench")


@contextlib.contextmanager
def peer(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-c", PEER, "--model", str(folder), "--port", str(port)]
    with started(command, f"http://127.0.0.1:{port}/health", HF_HUB_OFFLINE="1"):
        yield Server("mlx_lm.server", f"http://127.0.0.1:{port}", str(folder))


def prompt(number: int) -> str:
    """A prompt of about 40, 200 or 800 tokens; no two share a beginning."""
    length = (30, 160, 640)[number % 3]
    words = WORDS.split()
    text = " ".join(words[(number + i * (number % 5 + 1)) % len(words)] for i in range(length))
    return f"Story {number}. Continue this text at length: {text}"


async def stream(client: httpx.AsyncClient, server: Server, number: int, max_tokens: int):
    """One streamed chat; returns its tokens, time to first token and gaps between chunks."""
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": prompt(number)}],
        "max_tokens": max_tokens,
        "temperature": 0.7 + 0.01 * (number % 16),  # every request has its own parameters
        "top_p": 0.9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started_at = time.perf_counter()
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
    arrivals = arrivals or [time.perf_counter()]  # an answer without words
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    return tokens, arrivals[0] - started_at, gaps


async def load(server: Server, streams: int, max_tokens: int, seed: int) -> Result:
    """Start ``streams`` chats at once and wait for all of them."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        started_at = time.perf_counter()
        outcomes = await asyncio.gather(
            *(stream(client, server, seed + i, max_tokens) for i in range(streams)),
            return_exceptions=True,
        )
        elapsed = time.perf_counter() - started_at
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            print(f"{server.name}: {outcome!r}", file=sys.stderr)
    done = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    gaps = sorted(gap for _, _, gaps in done for gap in gaps)
    return Result(
        server=server.name,
        streams=streams,
        tokens_per_second=sum(tokens for tokens, _, _ in done) / elapsed,
        ttft_median=statistics.median([ttft for _, ttft, _ in done] or [float("nan")]),
        itl_p95=gaps[int(0.95 * len(gaps))] if gaps else float("nan"),
        failed=len(outcomes) - len(done),
    )


def measure(servers: list[Server], args: argparse.Namespace) -> list[Result]:
    """Interleaved rounds; the median of the rounds for each server and load."""
    for server in servers:
        asyncio.run(load(server, 2, 8, seed=900_000))  # warm up, with prompts of its own
    rounds: dict[tuple[str, int], list[Result]] = {}
    for number in range(args.rounds):
        for streams in args.streams:
            for server in servers:
                result = asyncio.run(load(server, streams, args.max_tokens, seed=1000 * number))
                rounds.setdefault((server.name, streams), []).append(result)
                print(f"round {number + 1}: {result}", file=sys.stderr, flush=True)
    return [
        Result(
            name,
            streams,
            *(
                statistics.median(getattr(result, field) for result in results)
                for field in ("tokens_per_second", "ttft_median", "itl_p95")
            ),
            failed=sum(result.failed for result in results),
        )
        for (name, streams), results in rounds.items()
    ]


def table(results: list[Result]) -> str:
    """Markdown, with the ratio to the peer where it was measured."""
    lines = [
        "| streams | server | tokens/s | TTFT median s | ITL p95 s | failed | tokens/s ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    base = {r.streams: r.tokens_per_second for r in results if r.server != "mlxnode"}
    for r in results:
        ratio = f"{r.tokens_per_second / base[r.streams]:.2f}" if r.streams in base else ""
        lines.append(
            f"| {r.streams} | {r.server} | {r.tokens_per_second:.1f} | {r.ttft_median:.2f} "
            f"| {r.itl_p95:.3f} | {r.failed} | {ratio} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--without-peer", action="store_true", help="measure mlxnode alone")
    parser.add_argument("--json", type=Path, help="write the results there as well")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as running:
        folder = export(fetch_demo_model("smollm2-135m-instruct"), Path(scratch) / "model")
        servers = [running.enter_context(node(folder))]
        if not args.without_peer:
            servers.append(running.enter_context(peer(folder)))
        results = measure(servers, args)
    print(table(results))
    if args.json:
        machine = {"platform": platform.platform(), "cpus": os.cpu_count()}
        document = {"machine": machine, "results": [asdict(result) for result in results]}
        args.json.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
