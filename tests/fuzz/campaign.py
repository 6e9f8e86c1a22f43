"""Generated requests against a running node: each gets an answer of the API, and none a 500.

A request depends on the seed and its number alone, so each finding can be repeated.
"""

import asyncio
import functools
import json
import random
import traceback
from collections import Counter
from dataclasses import dataclass, field

from fuzz.bodies import MAKERS, mutated, recorded
from fuzz.wire import exchange, message, spoiled

AT_ONCE = 16  # connections
MAX_FINDINGS = 20

_recorded = functools.cache(recorded)


@dataclass
class Report:
    """What a campaign has found."""

    statuses: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def request(seed: int, number: int, key: str) -> tuple[str, bytes]:
    """The kind and the bytes of one request."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choice(("valid", "mutated", "mutated", "raw", "raw", "recorded"))
    if kind == "recorded":
        path, body = rng.choice(_recorded())
        content = json.dumps(mutated(body, rng))
    else:
        path, make = rng.choice(list(MAKERS.items()))
        body = make(rng)
        content = json.dumps(mutated(body, rng) if kind != "valid" else body)
    data = message(path, content.encode(), key, rng)
    return kind, spoiled(data, rng) if kind == "raw" else data


async def run(port: int, key: str, *, seed: int, numbers: range, on_done=None) -> Report:
    """Send the requests with those ``numbers``, some at a time."""
    report = Report()
    waiting = iter(numbers)

    async def client() -> None:
        for number in waiting:
            await _one(port, key, seed, number, report)
            if on_done is not None:
                on_done(report)
            if len(report.findings) >= MAX_FINDINGS:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(client())
    return report


async def _one(port: int, key: str, seed: int, number: int, report: Report) -> None:
    kind, data = request(seed, number, key)
    try:
        answers = await exchange(port, data, is_whole=kind != "raw")
        for answer in answers:
            report.statuses[f"{kind} {answer.status}"] += 1
            answer.check(is_head=data.startswith(b"HEAD"))
        if kind != "raw":
            assert len(answers) == 1, f"{len(answers)} answers"
        if kind == "valid":
            assert answers[0].status == 200, answers[0].body
    except Exception:
        text = f"request {number} ({kind}): {data[:3000]!r}\n{traceback.format_exc()}"
        report.findings.append(text)
