"""Attack a node with generated requests.

Usage: python -m fuzz.requests [--count 100000] [--seed 1] [--only NUMBER]
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from fuzz.campaign import Report, request, run
from fuzz.node import attacked_node, port_of
from support.node_process import API_KEY


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="send this one, and show it")
    options = parser.parse_args()
    numbers = range(options.count)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
        print(request(options.seed, options.only, API_KEY)[1])
    with tempfile.TemporaryDirectory() as folder, attacked_node(Path(folder)) as node:
        started = time.monotonic()
        work = run(
            port_of(node), API_KEY, seed=options.seed, numbers=numbers, on_done=_progress
        )
        report = asyncio.run(work)
        seconds = time.monotonic() - started
        errors = [line for line in node.log if " ERROR " in line or "Traceback" in line]
    total = sum(report.statuses.values())
    print(f"{total} answers in {seconds:.0f} s, seed {options.seed}")
    for status, number in sorted(report.statuses.items()):
        print(f"  {status}: {number}")
    for finding in report.findings:
        print(finding)
    for line in errors:
        print(f"in the log: {line}", end="")
    print(f"{len(report.findings)} findings, {len(errors)} errors in the log")
    return 1 if report.findings or errors else 0


def _progress(report: Report) -> None:
    total = sum(report.statuses.values())
    if total % 5000 == 0:
        print(f"{total} answers, {len(report.findings)} findings", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
