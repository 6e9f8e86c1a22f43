"""Throughput and latency over HTTP, beside mlx_lm.server on the same model in the same run.

The servers are started on free ports of the loopback interface and loaded in turn, so that
whatever else the machine does hits all; afresh for every round, so that no round finds what
another left in a cache. Only ratios mean anything. The model is the demo model's first six
layers with its whole vocabulary, so small that a server's own cost shows.

    python benchmarks/serving.py --rounds 3 --json serving.json --plot serving.svg
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
from dataclasses import asdict
from pathlib import Path

import httpx2 as httpx
from models import export
from report import plot, table
from servers import NODE, Server, node, other, peer
from workloads import LOADS, Bench, Figure


async def play(server: Server, load: str, *settings: object) -> list[Figure]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        return await LOADS[load].run(Bench(server, client, *settings))


def measure(models: dict[str, Path], args: argparse.Namespace) -> list[Figure]:
    """Interleaved rounds, each with fresh servers; the median of each figure."""
    rounds: dict[tuple, list[float]] = {}
    for number, stage in itertools.product(range(args.rounds), models):
        loads = [name for name in args.loads if LOADS[name].stage == stage]
        if not loads:
            continue
        with contextlib.ExitStack() as running:
            servers = start(stage, models[stage], args, running)
            for server in servers:
                asyncio.run(play(server, "1", 99, 8))  # warm up
            for name, server in itertools.product(loads, servers):
                if LOADS[name].is_for_node and server.name != NODE:
                    continue
                settings = number, args.max_tokens, args.sentence_transformers
                try:
                    figures = asyncio.run(play(server, name, *settings))
                except (httpx.HTTPError, ExceptionGroup) as error:
                    print(f"{server.name}, {name}: {error!r}", file=sys.stderr)
                    continue
                for f in figures:
                    key = (f.server, f.name, f.unit, f.is_better)
                    rounds.setdefault(key, []).append(f.value)
                    print(f"round {number + 1}: {f}", file=sys.stderr, flush=True)
    return [Figure(*key, statistics.median(values)) for key, values in rounds.items()]


def start(
    stage: str, folder: Path, args: argparse.Namespace, running: contextlib.ExitStack
) -> list[Server]:
    """The servers of a stage, which end with ``running``."""
    is_mixed = stage == "embeddings"
    servers = [running.enter_context(node(folder, has_embeddings=is_mixed))]
    if not (args.without_peer or is_mixed):
        servers.append(running.enter_context(peer(folder)))
    if stage == "cut":
        servers += map(other, args.url)
    return servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=LOADS)
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
    args = parser.parse_args()
    if args.export:
        export(args.export, args.layers)
        return

    with tempfile.TemporaryDirectory() as scratch:
        cut = export(Path(scratch) / "cut", args.layers)
        models = {"cut": cut, "whole": export(Path(scratch) / "whole"), "embeddings": cut}
        figures = measure(models, args)
    print(table(figures))
    if args.json:
        machine = {"platform": platform.platform(), "cpus": os.cpu_count()}
        document = {"machine": machine, "figures": [asdict(figure) for figure in figures]}
        args.json.write_text(json.dumps(document, indent=2))
    if args.plot:
        plot(figures, args.plot)


if __name__ == "__main__":
    main()
