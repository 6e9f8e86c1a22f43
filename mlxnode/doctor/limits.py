"""Limits of the system that a node meets: descriptors, connections, sleep, sockets."""

import resource
import shutil
import socket
from pathlib import Path

from mlxnode.doctor.commands import sysctl
from mlxnode.doctor.findings import Finding, Section
from mlxnode.doctor.system import is_mac
from mlxnode.process.descriptors import raise_descriptor_limit

ENOUGH_DESCRIPTORS = 2048
_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
_CAFFEINATE = "/usr/bin/caffeinate"


def check_limits() -> Section:
    """The checks that a user can do something about."""
    return Section("Limits", [descriptors(), queue_of_connections(), sleep_command()])


def report_limits() -> Section:
    """The same, with what only shows how the system behaves."""
    findings = check_limits().findings
    return Section("Limits", [*findings, pair_buffer(), addresses_side_by_side()])


def descriptors() -> Finding:
    """How many files and sockets a process of a node may have open."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_descriptor_limit()
    reached, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
    text = f"{_limit(before)} here, hard limit {_limit(hard)}; a node gets {_limit(reached)}"
    if reached != resource.RLIM_INFINITY and reached < ENOUGH_DESCRIPTORS:
        advice = f"raise the hard limit to {ENOUGH_DESCRIPTORS} or more (ulimit -Hn)"
        return Finding("descriptors", "warn", text, advice)
    return Finding("descriptors", "ok", text)


def queue_of_connections() -> Finding:
    """How many new connections the system holds until a worker accepts them."""
    if is_mac():
        value = sysctl("kern.ipc.somaxconn")
    else:
        value = _SOMAXCONN.read_text().strip() if _SOMAXCONN.exists() else None
    if value is None:
        return Finding("connections", "info", "the system does not say how many may wait")
    return Finding("connections", "ok", f"{value} new ones may wait to be accepted")


def sleep_command() -> Finding:
    """Whether the command is there that keeps a Mac awake while requests run."""
    if not is_mac():
        return Finding("sleep", "info", "does not apply: only a Mac is kept awake")
    if Path(_CAFFEINATE).exists() or shutil.which("caffeinate"):
        return Finding("sleep", "ok", "caffeinate keeps the Mac awake while requests run")
    advice = "without it, keep the Mac awake in System Settings"
    return Finding("sleep", "warn", f"{_CAFFEINATE} is missing", advice)


def pair_buffer() -> Finding:
    """The size of the buffers of the pipes between the processes."""
    end, other = socket.socketpair()
    with end, other:
        size = end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return Finding("pipe buffer", "info", f"{size} bytes")


def addresses_side_by_side() -> Finding:
    """Whether one address and all addresses can have the same port at the same time."""
    with socket.socket() as one, socket.socket() as all_addresses:
        for listener in (one, all_addresses):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        one.listen()
        try:
            all_addresses.bind(("0.0.0.0", one.getsockname()[1]))
            all_addresses.listen()
        except OSError:
            text = "127.0.0.1 and 0.0.0.0 exclude each other on one port"
        else:
            text = "127.0.0.1 and 0.0.0.0 bind side by side on one port"
    return Finding("addresses", "info", text)


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)
