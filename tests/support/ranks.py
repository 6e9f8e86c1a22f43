"""Several ranks of one engine on this machine: free ports, hostfiles, processes."""

import json
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path


def free_ports(count: int) -> int:
    """The first of ``count`` ports in a row that nobody uses, below those of clients."""
    for _ in range(200):
        first = random.randrange(11_000, 31_000)
        listeners = []
        try:
            for port in range(first, first + count):
                listeners.append(socket.create_server(("127.0.0.1", port)))
            return first
        except OSError:
            continue
        finally:
            for listener in listeners:
                listener.close()
    raise AssertionError(f"no {count} free ports in a row")


def write_hostfile(folder: Path, size: int) -> Path:
    path = folder / "hosts.json"
    path.write_text(json.dumps([{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * size))
    return path


def processes_of(where: str) -> list[tuple[int, str]]:
    """The pid and the command line of all processes that ``where`` is an argument of."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,stat=,args="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split(None, 2) for line in listing.splitlines() if where in line]
    return [(int(pid), args) for pid, stat, args in rows if not stat.startswith("Z")]


def children_of(pid: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    return [
        int(child)
        for child, parent, stat in rows
        if int(parent) == pid and not stat.startswith("Z")
    ]


def session_pid(where: str, rank: int) -> int:
    """The process of ``rank`` that computes: a child of its ``mlxnode engine``."""
    for pid, args in processes_of(where):
        if " engine --of" in args and "mlx_launch" not in args and _rank_of(pid) == rank:
            for child in children_of(pid):
                if "spawn_main" in _args(child):
                    return child
    raise AssertionError(processes_of(where))


def wait_until(is_true: Callable[[], object], seconds: float, what: object = "") -> float:
    """Ask again and again; returns the seconds that it took."""
    began, pause = time.monotonic(), threading.Event()
    while not is_true():
        took = time.monotonic() - began
        assert took < seconds, what() if callable(what) else what
        pause.wait(0.05)
    return time.monotonic() - began


def _args(pid: int) -> str:
    command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True).stdout


def _rank_of(pid: int) -> int:
    """The rank that mlx.launch gave to a process, from 1 on."""
    command = ["ps", "eww", "-o", "args=", "-p", str(pid)]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    return next(int(w[9:]) + 1 for w in text.split() if w.startswith("MLX_RANK="))


def kill_all(where: str) -> None:
    """End what is left of a test that failed."""
    for pid, _ in processes_of(where):
        for each in [pid, *children_of(pid)]:
            try:
                os.kill(each, 9)
            except ProcessLookupError:
                continue
