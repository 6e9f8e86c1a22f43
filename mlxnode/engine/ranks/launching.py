"""Starts the other ranks with MLX's own launcher, and ends them with it.

The key of the engine goes over the launcher's standard input, which passes it on to all jobs:
others on the machines see command lines and environments. A job asks for the key first, because
ssh would show what it gets before the other side has turned the echo off.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from mlxnode.config.hostfile import Hostfile

log = logging.getLogger("mlxnode.ranks")

ASK = "mlxnode: the key of the engine, please"  # a line of a job on standard output


class Launcher:
    """The process of ``mlx.launch``, for the ranks from 1 on.

    ``on_end`` is called once with what the launcher said last, when it ends by itself.
    """

    def __init__(self, hostfile: Hostfile, where: str, key: str, on_end: Callable[[str], None]):
        self._key, self._on_end = key, on_end
        self._num_jobs = len(hostfile.hosts) - 1
        self._num_asked = 0
        self._last: deque[str] = deque(maxlen=5)
        self._is_closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="mlxnode-ranks-")
        # A working directory would be made on other machines; the one here may not be there.
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlxnode.engine.ranks.mlx_launch"),
                *("--backend", "ring"),  # how it starts jobs; rank 0 tells them their group
                *("--hostfile", str(_write(hostfile, Path(self._folder.name)))),
                "--",
                *(sys.executable, "-m", "mlxnode", "engine", "--of", where, "--launched"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the jobs on this machine are in the group as well
        )
        threading.Thread(target=self._read, name="mlx-launch", daemon=True).start()

    def close(self) -> None:
        """End the launcher with all that it started on this machine.

        On other machines, ssh takes the terminal away from the jobs, which ends them.
        """
        self._is_closed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors="replace").strip()
            if line.endswith(ASK):
                self._num_asked += 1
                if self._num_asked == self._num_jobs:
                    self._tell_key()
            elif line:
                self._last.append(line)
                log.info("%s", line.replace(self._key, "(the key)"))
        code = self._process.wait()
        if not self._is_closed:
            said = "; ".join(self._last) or "nothing"
            self._on_end(f"mlx.launch ended with exit code {code}: {said}")

    def _tell_key(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{self._key}\n".encode())
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended, which is told


def _write(hostfile: Hostfile, folder: Path) -> Path:
    """A hostfile of all hosts but the first, for a launcher that needs an address of each."""
    hosts = [{"ssh": host.ssh, "ips": host.ips or ["-"]} for host in hostfile.hosts[1:]]
    path = folder / "hosts.json"
    path.write_text(json.dumps({"envs": hostfile.envs, "hosts": hosts}), encoding="utf-8")
    return path
