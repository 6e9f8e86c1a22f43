"""What a node holds: memory and descriptors of its processes, and its own figures."""

import threading
import time
from dataclasses import dataclass

import psutil

from mlxnode.figures import NodeFigures
from mlxnode.process.status_socket import read_status

IDLE_WITHIN = 60.0  # seconds until everything that was reserved is free again
_POLL = 0.2  # seconds


@dataclass(frozen=True)
class Sample:
    """Of one process at one time: ``resident`` in bytes."""

    seconds: float
    process: str
    resident: int
    descriptors: int


def sample(port: int, started: float) -> list[Sample]:
    """One sample of each process of the node on ``port``."""
    figures = read_status(port)
    pids = {"supervisor": figures.pid} | {one.name: one.pid for one in figures.processes}
    samples = []
    for name, pid in pids.items():
        process = psutil.Process(pid)
        resident = process.memory_info().rss
        elapsed = time.monotonic() - started
        samples.append(Sample(elapsed, name, resident, process.num_fds()))
    return samples


def wait_idle(port: int) -> NodeFigures:
    """The figures, once no request waits or runs.

    Raises:
        AssertionError: something is still held after ``IDLE_WITHIN`` seconds.
    """
    pause, deadline = threading.Event(), time.monotonic() + IDLE_WITHIN
    while True:
        figures = read_status(port)
        if held := _held(figures):
            assert time.monotonic() < deadline, f"still held: {held}"
            pause.wait(_POLL)
        else:
            return figures


def _held(figures: NodeFigures) -> dict[str, int]:
    """What requests hold, by name; the engine reports it once a second."""
    if figures.engine is None:
        return {"engine": 0}
    counts = {}
    for model in figures.engine.models:
        counts[f"{model.id}: running"] = model.work.num_running
        counts[f"{model.id}: waiting"] = model.work.num_waiting
    return {name: count for name, count in counts.items() if count}
