"""What two ranks cost on one machine: the step, and the plans that rank 0 sends.

A model of random weights decodes in one process, then as two ranks that share each layer, over
MLX's ring and TCP on loopback. Both ranks share the processors, so the steps say nothing of two
machines; the time of the plans does, since rank 0 sends them whatever the others do.

    python benchmarks/ranks.py --batches 1 4 16
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Listener, wait
from pathlib import Path
from typing import Any

from mlxnode.engine import cpu

STEPS = 100
MODEL = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 16,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 32_000,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What two ranks cost on one machine.")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16])
    args = parser.parse_args()
    alone = in_processes(1, args.batches)
    together = in_processes(2, args.batches)
    print("| rows | step, one process (ms) | step, two ranks (ms) | its plans (us) | share |")
    print("|---|---|---|---|---|")
    for rows, (one, _), (two, plans) in zip(args.batches, alone, together, strict=True):
        times = f"{one * 1e3:.1f} | {two * 1e3:.1f} | {plans * 1e6:.0f}"
        print(f"| {rows} | {times} | {plans / two:.2%} |")


def in_processes(size: int, batches: Sequence[int]) -> list[tuple[float, float]]:
    """For each batch: the median seconds of a step, and those of its plans."""
    ports = [_free_port() for _ in range(size + 1)]
    with tempfile.TemporaryDirectory() as folder:
        hosts = Path(folder) / "hosts.json"
        hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in ports[:size]]))
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        processes = [
            context.Process(
                target=_rank, args=(rank, size, hosts, ports[size], batches, theirs)
            )
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        try:
            if ours not in wait([ours, *(each.sentinel for each in processes)]):
                raise SystemExit("a rank has ended")
            return ours.recv()
        finally:
            for process in processes:
                process.join(5)
                process.kill()


def _rank(
    rank: int, size: int, hosts: Path, port: int, batches: Sequence[int], result: Any
) -> None:
    cpu.prepare_process()
    if size > 1:
        os.environ |= {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)}
    import mlx.core as mx

    from mlxnode.engine.loader import split

    group = None
    if size > 1:
        group = mx.distributed.init(strict=True, backend="ring")
        split.use(group, "tensor")
    model = _model()
    if rank:
        _follow(group, model, port)
    else:
        plans = _lead(group, model, port) if size > 1 else []
        result.send(_measure(model, batches, plans))


def _model() -> Any:
    import mlx.core as mx
    from mlx_lm.utils import _get_classes

    from mlxnode.engine.loader import split

    mx.random.seed(0)
    model_class, arguments_class = _get_classes(MODEL)
    model = model_class(arguments_class.from_dict(MODEL))
    cpu.install(model)
    split.take_part(model, "tensor")
    mx.eval(model.parameters())
    return model


def _follow(group: Any, model: Any, port: int) -> None:
    from mlxnode.engine.decode import projection
    from mlxnode.engine.ranks.calls import Calls
    from mlxnode.engine.ranks.link import Link
    from mlxnode.messages.ranks import Goodbye, to_rank

    calls = Calls(group, lambda reason: os._exit(1))
    projection.prepare(model)
    calls.adopt(1, model)
    link = Link(_connect(port), to_rank, lambda reason: os._exit(0)).start()
    while not isinstance(plan := link.receive(), Goodbye):
        calls.follow(plan)


def _connect(port: int) -> Any:
    while True:
        try:
            return Client(("127.0.0.1", port), authkey=b"benchmark")
        except ConnectionRefusedError:
            time.sleep(0.05)


@dataclass
class _Other:
    """The other rank, for a leader that loads no models by itself."""

    group: Any
    link: Any
    size: int = 2

    def send(self, message: Any) -> None:
        self.link.send(message)

    def replies(self) -> Iterator[tuple[int, Any]]:
        return iter(())

    def describe(self, rank: int) -> str:
        return f"rank {rank}"


def _lead(group: Any, model: Any, port: int) -> list[float]:
    """Mirror the calls of this process; returns the seconds of each, beside the call itself."""
    from mlxnode.engine import mirror
    from mlxnode.engine.ranks.leader import Leader
    from mlxnode.engine.ranks.link import Link
    from mlxnode.messages.ranks import from_rank

    seconds: list[float] = []

    class Timed(Leader):
        def call(
            self,
            name: str,
            function: Callable[..., Any],
            arguments: tuple[Any, ...],
            options: dict[str, Any],
        ) -> Any:
            inside = 0.0

            def run(*values: Any, **named: Any) -> Any:
                nonlocal inside
                began = time.perf_counter()
                try:
                    return function(*values, **named)
                finally:
                    inside += time.perf_counter() - began

            began = time.perf_counter()
            result = super().call(name, run, arguments, options)
            seconds.append(time.perf_counter() - began - inside)
            return result

    with Listener(("127.0.0.1", port), authkey=b"benchmark") as listener:
        link = Link(listener.accept(), from_rank, print).start()
    leader = Timed(_Other(group, link))
    leader.adopt(model, 1)
    mirror.install(leader)
    return seconds


def _measure(
    model: Any, batches: Sequence[int], plans: list[float]
) -> list[tuple[float, float]]:
    from mlxnode.config.tables import EngineConfig
    from mlxnode.engine.decode.parts import TextParts
    from mlxnode.engine.decode.request import Request
    from mlxnode.engine.decode.runner import TextRunner
    from mlxnode.engine.kvcache.budget import UNBOUNDED, MemoryBudget
    from mlxnode.engine.work import RequestKey
    from mlxnode.messages.data import Generate, Sampling

    config = EngineConfig(num_speculative_tokens=0)
    parts = TextParts(model, config, MemoryBudget(UNBOUNDED), _no_grammars)
    found = []
    for rows in batches:
        runner = TextRunner(parts)
        for uid in range(rows):
            message = Generate(
                uid=uid,
                model="m",
                prompt=[5 + uid] * 32,
                max_tokens=STEPS + 40,
                stop_ids=[],
                sampling=Sampling(temperature=0.0),
            )
            runner.add_request(Request.of(RequestKey(0, uid), message, random_seed=0))
        while runner.num_running < rows:
            list(runner.step())
        times, sent = [], []
        for _ in range(STEPS):
            before, began = len(plans), time.perf_counter()
            list(runner.step())
            times.append(time.perf_counter() - began)
            sent.append(sum(plans[before:]))
        found.append((statistics.median(times), statistics.median(sent)))
        for uid in range(rows):
            runner.abort(RequestKey(0, uid))
        while runner.has_work:
            list(runner.step())
    return found


def _no_grammars(vocabulary_size: int, stop_ids: frozenset[int]) -> Any:
    raise RuntimeError("no request here has a grammar")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
