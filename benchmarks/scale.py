"""Nodes on paper: fits their costs, plays traces on simulated nodes, and validates that.

    python benchmarks/scale.py fit --url http://127.0.0.1:8080 --model my-model --json a.json
    python benchmarks/scale.py simulate --costs a.json --nodes 4 --rate 0.5
    python benchmarks/scale.py simulate --mac m3-ultra --nodes 2 --rate 0.1 --policy round-robin
    python benchmarks/scale.py limit --mac m3-ultra --nodes 2 --bound 3
    python benchmarks/scale.py plan
    python benchmarks/scale.py validate --json build/scale.json

``simulate --write-trace`` stores a trace, ``simulate --trace`` plays one. docs/scale.md says
what the model is, and what its limits are.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from scaling import macs, planning, traces
from scaling.cluster import Policy, simulate
from scaling.costs import Costs
from scaling.planning import Case, Setup, find_limit, plan
from scaling.summary import summary_of

from mlxnode.bench.servers import Server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = parser().parse_args(arguments)
    try:
        return args.run(args)
    except (OSError, ValueError) as error:
        print(f"scale.py: {error}", file=sys.stderr)
        return 2


# --- on paper ---------------------------------------------------------------------------


def run_simulate(args: argparse.Namespace) -> int:
    """Play one trace, and print its figures."""
    costs = costs_of(args)
    if args.trace:
        conversations = traces.read(args.trace)
    else:
        conversations = list(
            workload_of(args).conversations(args.rate, args.conversations, args.seed)
        )
    if args.write_trace:
        traces.write(conversations, args.write_trace)
    played = simulate(
        conversations, costs, args.nodes, args.policy, answer_reuse=args.answer_reuse
    )
    rows = summary_of(played).rows() + planning.use_of(played, costs)
    if args.mac:
        rows += planning.energy_of(played, macs.MACS[args.mac])
    print(table([f"{args.nodes} nodes, {args.policy}", ""], rows))
    return 0


def run_limit(args: argparse.Namespace) -> int:
    """Print the highest rate of conversations within the bound, for each policy."""
    rows = []
    for policy in get_args(Policy):
        setup = Setup(costs_of(args), workload_of(args), policy, seed=args.seed)
        found = find_limit(setup, args.nodes, args.bound)
        rows.append([policy, f"{found:.3f}", f"{3600 * found:.0f}"])
    heads = [f"{args.nodes} nodes, TTFT p95 ≤ {args.bound:g} s"]
    print(table([*heads, "conversations/s", "conversations/h"], rows))
    return 0


def run_plan(args: argparse.Namespace) -> int:
    """Print how many Macs each of the worked examples needs, and what breaks first."""
    cases = [case for case in planning.CASES if args.case in (None, case.name)]
    rows = [plan(case).row() for case in cases]
    print(table(Case.HEADS, rows))
    return 0


# --- with real nodes ----------------------------------------------------------------------


def run_fit(args: argparse.Namespace) -> int:
    """Fit the costs of a node that runs."""
    server = Server(args.url, args.url.rstrip("/").removesuffix("/v1"), args.model)
    costs = asyncio.run(_fit(server, None, args))
    show(costs, args.json)
    return 0


def run_validate(args: argparse.Namespace) -> int:
    """Start two nodes on this machine; fit, play for real, simulate, and compare."""
    from models import export
    from scaling import validating
    from scaling.fitting import layers_share
    from servers import start_node

    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as running:
        folder = export(Path(scratch) / "model", args.layers or None)
        nodes = [
            running.enter_context(start_node(folder, tables="[server]\nworkers = 1\n"))
            for _ in range(2)
        ]
        costs = args.costs and Costs.load(args.costs)
        costs = costs or asyncio.run(_fit(nodes[0], nodes[1], args))
        costs = replace(costs, layers_share=layers_share(folder))
        print(f"costs: {json.dumps(asdict(costs))}", file=sys.stderr)

        async def measure() -> list[validating.Comparison]:
            async with nodes[0].make_client() as client:
                return await validating.validate(
                    costs,
                    nodes,
                    client,
                    rate=args.rate,
                    count=args.conversations,
                    rounds=args.rounds,
                )

        found = asyncio.run(measure())
    print(table(["figure", "two nodes", "simulated", "error"], validating.rows_of(found)))
    if args.json:
        document = {"costs": asdict(costs), "figures": [asdict(each) for each in found]}
        args.json.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 0 if validating.largest(found) <= args.within else 1


async def _fit(server: Server, other: Server | None, args: argparse.Namespace) -> Costs:
    from scaling.fitting import Fitting

    async with server.make_client() as client:
        if getattr(args, "key", None):
            client.headers["authorization"] = f"Bearer {args.key}"
        return await Fitting(client, server, args.fit_rounds).costs(other)


# --- the command line -----------------------------------------------------------------------


def costs_of(args: argparse.Namespace) -> Costs:
    if args.costs:
        return Costs.load(args.costs)
    return macs.costs_of(macs.MACS[args.mac], macs.MODELS[args.model])


def workload_of(args: argparse.Namespace) -> traces.Workload:
    given = {
        name: getattr(args, name)
        for name in ("system_tokens", "user_tokens", "answer_tokens", "turns", "think")
        if getattr(args, name) is not None
    }
    return replace(traces.Workload(arrivals=args.arrivals), **given)


def show(costs: Costs, file: Path | None) -> None:
    print(json.dumps(asdict(costs), indent=2))
    if file:
        costs.save(file)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    commands = found.add_subparsers(required=True)

    paper = argparse.ArgumentParser(add_help=False)
    which = paper.add_mutually_exclusive_group(required=True)
    which.add_argument("--costs", type=Path, help="of a fitted node")
    which.add_argument("--mac", choices=macs.MACS, help="assumed from published figures")
    paper.add_argument("--model", choices=macs.MODELS, default="8b", help="for --mac")
    paper.add_argument("--nodes", type=at_least_one, default=2)
    paper.add_argument("--seed", type=int, default=0)
    paper.add_argument("--arrivals", choices=get_args(traces.Arrivals), default="poisson")
    for name in ("system-tokens", "user-tokens", "answer-tokens"):
        paper.add_argument(f"--{name}", type=at_least_one, help="median, of the workload")
    for name in ("turns", "think"):
        paper.add_argument(f"--{name}", type=positive, help="mean, of the workload")

    command = commands.add_parser("simulate", parents=[paper], help="play one trace")
    command.add_argument("--rate", type=positive, default=0.1, help="conversations a second")
    command.add_argument("--conversations", type=at_least_one, default=300)
    command.add_argument("--policy", choices=get_args(Policy), default="affinity")
    command.add_argument("--answer-reuse", type=float, default=1.0, help="share of old answers")
    command.add_argument("--trace", type=Path, help="a trace to play, JSON lines")
    command.add_argument("--write-trace", type=Path)
    command.set_defaults(run=run_simulate)

    command = commands.add_parser("limit", parents=[paper], help="the rate where it breaks")
    command.add_argument("--bound", type=positive, default=3.0, help="TTFT p95, seconds")
    command.set_defaults(run=run_limit)

    command = commands.add_parser("plan", help="Macs for a household, a team, a company, more")
    command.add_argument("--case", choices=[case.name for case in planning.CASES])
    command.set_defaults(run=run_plan)

    command = commands.add_parser("fit", help="measure a node that runs")
    command.add_argument("--url", required=True)
    command.add_argument("--model", required=True)
    command.add_argument("--key")
    command.add_argument("--fit-rounds", type=at_least_one, default=5)
    command.add_argument("--json", type=Path, help="write the costs there")
    command.set_defaults(run=run_fit)

    command = commands.add_parser("validate", help="two real nodes beside two simulated ones")
    command.add_argument("--layers", type=int, default=6, help="of the demo model; 0: all")
    command.add_argument("--rate", type=positive, default=0.4, help="conversations a second")
    command.add_argument("--conversations", type=at_least_one, default=10)
    command.add_argument("--rounds", type=at_least_one, default=6, help="traces")
    command.add_argument("--fit-rounds", type=at_least_one, default=5)
    command.add_argument("--costs", type=Path, help="fitted before; default: fit now")
    command.add_argument(
        "--within", type=positive, default=0.15, help="exit 1 beyond this error"
    )
    command.add_argument("--json", type=Path)
    command.set_defaults(run=run_validate)
    return found


if __name__ == "__main__":
    sys.exit(main())
