"""``mlxnode doctor --hosts``: the machines of one engine, each beside this one."""

import json
import queue
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlxnode.config.hostfile import Host, Hostfile, read_hostfile
from mlxnode.config.several import DistributedConfig
from mlxnode.doctor.findings import Finding, Section
from mlxnode.engine.ranks.description import describe, measure
from mlxnode.engine.ranks.door import ProvenDoor
from mlxnode.errors import ConfigError
from mlxnode.models.fingerprints import differences

SECONDS = 60.0  # for one machine
_LOCAL = "127.0.0.1"  # which mlx.launch starts without ssh, too


def check_hosts(config: DistributedConfig | None, models: list[str]) -> Iterator[Section]:
    """One section for the hostfile, and one for each machine but this one."""
    if config is None:
        advice = "see docs/several-macs.md"
        text = "the configuration has no table [engine.distributed]"
        yield Section("Hosts", [Finding("hostfile", "fail", text, advice)])
        return
    try:
        hostfile = read_hostfile(config)
    except ConfigError as error:
        command = _configure(config, None)
        yield Section("Hosts", [Finding("hostfile", "fail", str(error), command)])
        return
    yield Section("Hosts", [_hosts(hostfile), _devices(config, hostfile)])
    ours = describe(models)
    for rank, host in enumerate(hostfile.hosts):
        if rank:
            section = f"Host {host.ssh} (rank {rank})"
            yield Section(section, list(_check(hostfile, host, models, ours)))


def _hosts(hostfile: Hostfile) -> Finding:
    names = ", ".join(host.ssh for host in hostfile.hosts)
    return Finding("hostfile", "ok", f"{len(hostfile.hosts)} hosts: {names}")


def _devices(config: DistributedConfig, hostfile: Hostfile) -> Finding:
    """Whether RDMA over Thunderbolt is set up, or the command that does it."""
    count = len(hostfile.hosts)
    if all(len(host.rdma) == count for host in hostfile.hosts):
        pairs = [
            f"{host.ssh} -> {hostfile.hosts[j].ssh}: {device}"
            for host in hostfile.hosts
            for j, device in enumerate(host.rdma)
            if device is not None
        ]
        return Finding("RDMA", "ok", "; ".join(pairs))
    wants = config.backend == "jaccl" or hostfile.backend.startswith("jaccl")
    text = "the hostfile has no RDMA devices: tensors go over TCP"
    return Finding("RDMA", "fail" if wants else "info", text, _configure(config, hostfile))


def _configure(config: DistributedConfig, hostfile: Hostfile | None) -> str:
    """The command of MLX that writes the hostfile for Macs with a Thunderbolt cable."""
    hosts = ",".join(host.ssh for host in hostfile.hosts) if hostfile else "mac-1,mac-2"
    backend = "ring" if config.backend == "ring" else "jaccl"
    words = [
        *("mlx.distributed_config", "--hosts", hosts, "--over", "thunderbolt"),
        *("--backend", backend, "--auto-setup", "--output-hostfile", config.hostfile),
    ]
    return f"Macs with a Thunderbolt cable: {shlex.join(words)}"


def _check(
    hostfile: Hostfile, host: Host, models: list[str], ours: dict[str, Any]
) -> Iterator[Finding]:
    key = secrets.token_hex(32)
    try:
        door = ProvenDoor(hostfile.hosts[0].address, 0, key.encode())
    except ConfigError as error:
        yield Finding("address", "fail", str(error), "the first host has to be this machine")
        return
    try:
        yield from _ask(door, f"{hostfile.hosts[0].address}", key, host, models, ours)
    finally:
        door.close()


def _ask(
    door: ProvenDoor,
    address: str,
    key: str,
    host: Host,
    models: list[str],
    ours: dict[str, Any],
) -> Iterator[Finding]:
    """Run ``mlxnode engine --describe`` there, and measure the link meanwhile."""
    where = f"[{address}]:{door.port}" if ":" in address else f"{address}:{door.port}"
    program = [sys.executable, "-m", "mlxnode", "engine", "--describe", "--json", "--of", where]
    program += models
    ssh = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", host.ssh]
    command = program if host.ssh == _LOCAL else [*ssh, shlex.join(program)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        yield Finding("ssh", "fail", f"{command[0]}: {error.strerror}", "install OpenSSH")
        return
    with process:
        if process.stdin is not None:
            _write_key(process.stdin, key)
        link = _link(door, process)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
    said = _parse(out)
    if said is None:
        last = (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        yield _unreachable(host, process.returncode, last)
        return
    yield Finding("reachable", "ok", f"{said['host']} answers")
    yield link or Finding(
        "link", "fail", f"no connection to {address}: {said.get('link', 'none came')}",
        "the other machine has to reach the first address of the first host of the hostfile",
    )  # fmt: skip
    yield _versions(said, ours)
    for model in models:
        yield _files(model, ours["models"][model], said["models"].get(model, "not told"))


def _write_key(pipe: Any, key: str) -> None:
    try:
        pipe.write(f"{key}\n")
        pipe.flush()
    except OSError:
        return  # it has ended, which its exit code tells


def _link(door: ProvenDoor, process: subprocess.Popen[str]) -> Finding | None:
    """The speed of the link, once the machine connects; None: it does not."""
    for _ in range(int(SECONDS / 0.2)):
        try:
            connection = door.arrivals.get(timeout=0.2)
            break
        except queue.Empty:
            if process.poll() is not None:
                return None
    else:
        return None
    try:
        with connection:
            trip, rate = measure(connection)
    except (OSError, EOFError):
        return None
    text = f"{trip * 1e6:.0f} us for a round trip, {rate * 8 / 1e9:.1f} Gbit/s over TCP"
    slow = rate * 8 < 0.9e9 or trip > 2e-3
    advice = "use a cable: Thunderbolt, or Ethernet of 10 Gbit/s" if slow else ""
    return Finding("link", "warn" if slow else "ok", text, advice)


def _parse(out: str) -> dict[str, Any] | None:
    """The document that the other side has printed, maybe after a greeting of its shell."""
    try:
        said, _ = json.JSONDecoder().raw_decode(out, out.index("{\n"))
    except ValueError:
        return None
    return said if {"host", "versions", "models"} <= said.keys() else None


def _unreachable(host: Host, code: int | None, last: str) -> Finding:
    if code == 255:  # of ssh itself
        advice = f"ssh-copy-id {shlex.quote(host.ssh)}; on it: System Settings, Remote Login"
        return Finding("ssh", "fail", last, advice)
    advice = f"install mlxnode there with this Python at the same path: {sys.executable}"
    return Finding("mlxnode", "fail", last, advice)


def _versions(said: dict[str, Any], ours: dict[str, Any]) -> Finding:
    wrong = [
        f"{name} {said['versions'].get(name, '(none)')}, here {version}"
        for name, version in ours["versions"].items()
        if said["versions"].get(name) != version
    ]
    if wrong:
        return Finding("versions", "fail", "; ".join(wrong), "install the same versions")
    same = ", ".join(f"{name} {version}" for name, version in ours["versions"].items())
    return Finding("versions", "ok", same)


def _files(model: str, ours: dict[str, str] | str, theirs: dict[str, str] | str) -> Finding:
    name, folder = f"files of {model}", str(Path(model))
    if isinstance(ours, str) or isinstance(theirs, str):
        side, why = ("here", ours) if isinstance(ours, str) else ("there", theirs)
        return Finding(name, "fail", f"{side}: {why}", f"copy {folder}, to the same path")
    if wrong := differences(ours, theirs):
        return Finding(name, "fail", f"different: {', '.join(wrong[:5])}", "copy them again")
    return Finding(name, "ok", f"the same {len(ours)} files")
