"""Mixed load on a node for long: its memory stays flat, and nothing is held at the end.

Usage: python -m soak.run [--minutes 30] [--seed 1] [--json FILE]
"""

import argparse
import asyncio
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from fuzz.node import CONFIG, attacked_node, port_of
from soak.load import Load
from soak.sampling import Sample, sample, wait_idle
from support.node_process import API_KEY, NodeProcess

# What a node keeps on purpose has its largest size in the first minutes: prefixes, and buffers
# that MLX frees and uses again.
SOAKED = f"{CONFIG}[engine]\nkv_cache_gb = 0.02\nbuffer_cache_gb = 0.05\n"
WARM_UP = 0.25  # of the time
# What a process may have grown by since the warm-up: the allocator's noise.
MAX_GROWTH, FREE_GROWTH = 1.05, 8_000_000  # as a ratio, and in bytes
SPARE_DESCRIPTORS = 4  # the usage file is opened with the first request


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the samples there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, attacked_node(Path(folder), SOAKED) as node:
        samples, outcomes = asyncio.run(soak(node, options.minutes * 60, options.seed))
        pids = len(node.child_pids())
    print(json.dumps(outcomes, indent=1))
    findings = growth(samples)
    findings += [f"{kind}: {outcomes[kind]}" for kind in failures(outcomes)]
    print(
        f"{sum(outcomes.values())} requests, {pids} processes, findings: {findings or 'none'}"
    )
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(one) for one in samples]))
    return 1 if findings else 0


async def soak(
    node: NodeProcess, seconds: float, seed: int
) -> tuple[list[Sample], dict[str, int]]:
    """Load the node for that long; returns samples of its processes, and what clients got.

    The last samples are of the idle node.
    """
    port, started = port_of(node), time.monotonic()
    load = Load(node.url, API_KEY, seed)
    work = asyncio.create_task(load.run())
    samples: list[Sample] = await asyncio.to_thread(sample, port, started)
    for _ in range(40):
        done, _ = await asyncio.wait({work}, timeout=seconds / 40)
        if done:
            break
        samples += await asyncio.to_thread(sample, port, started)
    load.stop()
    await work
    await asyncio.to_thread(wait_idle, port)
    samples += await asyncio.to_thread(sample, port, started)
    return samples, dict(sorted(load.outcomes.items()))


def failures(outcomes: dict[str, int]) -> list[str]:
    """The outcomes for which the node is to blame."""
    statuses = {kind: kind.rpartition(" ")[2] for kind in outcomes}
    return [kind for kind, status in statuses.items() if status.isdigit() and int(status) > 499]


def growth(samples: list[Sample]) -> list[str]:
    """The processes that grew after the warm-up, or hold descriptors at the end."""
    end = samples[-1].seconds
    findings = []
    for name in dict.fromkeys(one.process for one in samples):
        own = [one for one in samples if one.process == name]
        warm = [one for one in own if WARM_UP * end <= one.seconds < 0.5 * end]
        late = [one for one in own if one.seconds >= 0.75 * end]
        before = statistics.median(one.resident for one in warm)
        after = statistics.median(one.resident for one in late)
        print(
            f"{name}: {before / 1e6:.1f} MB in the second quarter, {after / 1e6:.1f} MB in the "
            f"last ({after / before:.3f}); descriptors {own[0].descriptors} idle before, "
            f"{max(one.descriptors for one in own)} at most, {own[-1].descriptors} idle after"
        )
        if after > max(before * MAX_GROWTH, before + FREE_GROWTH):
            findings.append(f"{name}: memory grows")
        if own[-1].descriptors > own[0].descriptors + SPARE_DESCRIPTORS:
            findings.append(f"{name}: descriptors stay open")
    return findings


if __name__ == "__main__":
    sys.exit(main())
