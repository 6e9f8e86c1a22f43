"""Throughput and latency over HTTP, beside mlx_lm.server on the same model in the same run.

The benchmark starts the servers on free ports of the loopback interface and loads them in turn,
so that other work of the machine affects all of them. It starts them again for every round, so
that no round finds prompts of another round in a cache. Only ratios are meaningful. Most loads
have a model of the first six layers and the whole vocabulary of the demo model. The cost of a
server shows beside a model this small. Small models with random weights have the other kinds of
cache.

    python benchmarks/serving.py --rounds 3 --json serving.json --plot serving.svg
    python benchmarks/serving.py --rounds 1 --models hybrid --loads 1 16 shared turn
    python benchmarks/serving.py --export folder                  # the model for another server
    python benchmarks/serving.py --url http://127.0.0.1:8000/v1   # that serves it, compared too
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import httpx2 as httpx
from figures import Figure, Metric
from models import export, model_of
from report import plot, tables
from servers import Node, Server, find_server, start_mlx_lm_server, start_node
from workloads import LOADS
from workloads.bench import Bench, Load, NodeBench, NodeLoad, Settings, Stage


async def run(load: Load | NodeLoad, server: Server, settings: Settings) -> list[Figure]:
    """Run a load on a server. A load for mlxnode gives no figures of another server."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        if isinstance(load, Load):
            return await load.run(Bench(server, client, settings))
        if isinstance(server, Node):
            return await load.run(NodeBench(server, client, settings))
    return []


def measure(args: argparse.Namespace, scratch: Path) -> list[Figure]:
    """Run interleaved rounds, each with fresh servers; return the median of each figure."""
    values: dict[tuple[str, Metric], list[float]] = {}
    stages: list[Stage] = args.models
    for number, stage in itertools.product(range(args.rounds), stages):
        loads = {name: load for name, load in LOADS[stage].items() if name in args.loads}
        if not loads:
            continue
        settings = Settings(stage, number, args.max_tokens, args.sentence_transformers)
        with contextlib.ExitStack() as running:
            folder = model_of(stage, scratch, args.layers)
            servers = start_servers(stage, folder, args, running)
            for server in servers:
                asyncio.run(run(LOADS["cut"]["1"], server, _warm_up(stage)))
            for (name, load), server in itertools.product(loads.items(), servers):
                try:
                    figures = asyncio.run(run(load, server, settings))
                except (httpx.HTTPError, ExceptionGroup) as error:
                    print(f"{stage}, {server.name}, {name}: {error!r}", file=sys.stderr)
                    continue
                for figure in figures:
                    key = (figure.server, figure.metric)
                    values.setdefault(key, []).append(figure.value)
                    print(f"round {number + 1}: {figure}", file=sys.stderr, flush=True)
    return [Figure(*key, statistics.median(rounds)) for key, rounds in values.items()]


def _warm_up(stage: Stage) -> Settings:
    return Settings(stage, round=99, max_tokens=8)


def start_servers(
    stage: Stage, folder: Path, args: argparse.Namespace, running: contextlib.ExitStack
) -> list[Server]:
    """Start the servers of a stage; they stop when ``running`` closes."""
    has_embeddings = stage == "embeddings"
    servers: list[Server] = [
        running.enter_context(start_node(folder, has_embeddings=has_embeddings))
    ]
    if not (args.without_peer or has_embeddings):
        servers.append(running.enter_context(start_mlx_lm_server(folder)))
    if stage == "cut":
        servers += map(find_server, args.url)
    return servers


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Throughput and latency over HTTP, beside mlx_lm.server on the same model "
        "in the same run."
    )
    parser.add_argument("--models", nargs="+", default=list(LOADS), choices=LOADS)
    names = dict.fromkeys(name for loads in LOADS.values() for name in loads)
    parser.add_argument("--loads", nargs="+", default=list(names), choices=names)
    parser.add_argument("--layers", type=int, default=6, help="of the cut model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--without-peer", action="store_true", help="measure mlxnode alone")
    parser.add_argument("--url", action="append", default=[], help="one more server, running")
    parser.add_argument(
        "--sentence-transformers", metavar="PYTHON", help="a Python that has them, to compare"
    )
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--plot", type=Path, help="draw the ratios of throughput there")
    parser.add_argument("--export", type=Path, help="only write the cut model there")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.export:
        export(args.export, args.layers)
        return

    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(args, Path(scratch))
    print(tables(figures))
    if args.json:
        machine = {"platform": platform.platform(), "cpus": os.cpu_count()}
        document = {"machine": machine, "figures": [figure.as_json() for figure in figures]}
        args.json.write_text(json.dumps(document, indent=2))
    if args.plot:
        plot(figures, args.plot)


if __name__ == "__main__":
    main()
