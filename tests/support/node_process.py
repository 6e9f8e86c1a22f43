"""A real server in its own process, as ``mlxnode serve`` starts it."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

API_KEY = "sk-end-to-end"
CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"
CONFIG = f"""
[api]
address = "127.0.0.1:0"
api_key = "{API_KEY}"
[api.models.{CHAT}]
path = "demo/{CHAT}"
type = "chat"
context_length = 2048
[api.models.{EMBEDDING}]
path = "demo/{EMBEDDING}"
type = "embedding"
[server]
workers = 2
"""


class NodeProcess:
    """``mlxnode serve`` on a free port. The end of the block ends it and its children.

    Its state is in ``state`` of its folder: a later node of the same folder finds it there.
    """

    def __init__(
        self, folder: Path, config: str = CONFIG, *, command: Sequence[str] = (), **options: Any
    ):
        """``command`` runs the node; ``options`` are those of ``subprocess.Popen``."""
        path = folder / "config.toml"
        path.write_text(config)
        path.chmod(0o600)  # it holds a key
        self.url = ""
        self.log: list[str] = []
        self._ready = threading.Event()
        self._written = threading.Condition()
        # Usage and batches of other nodes, and of the user, are no concern of this one.
        environment = {**options.pop("env", os.environ), "MLXNODE_STATE": str(folder / "state")}
        serve = [sys.executable, "-m", "mlxnode", "serve", "--config", str(path)]
        self.process = subprocess.Popen(
            [*command, *serve],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            **options,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "NodeProcess":
        return self

    def __exit__(self, *_: object) -> None:
        children = self.child_pids()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._reader.join(10)

    def wait_ready(self, timeout: float = 120) -> None:
        assert self._ready.wait(timeout) and self.url, "".join(self.log)

    def wait_for_log(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """The first match in the log, once it is there."""
        found = None

        def is_there() -> bool:
            nonlocal found
            found = re.search(pattern, "".join(self.log))
            return found is not None

        with self._written:
            self._written.wait_for(is_there, timeout)
        assert found is not None, "".join(self.log)
        return found

    def _read(self) -> None:
        with self.process.stdout as lines:
            for line in lines:
                with self._written:
                    self.log.append(line)
                    self._written.notify_all()
                if not self.url and (found := re.search(r"https?://127\.0\.0\.1:\d+", line)):
                    self.url = found[0]
                    self._ready.set()
        self._ready.set()  # the command has ended: whoever waits need not wait longer

    def engine_pid(self) -> int:
        return self._started("engine")[-1]

    def worker_pids(self) -> list[int]:
        return [pid for pid in self._started(r"worker \d+") if is_running(pid)]

    def _started(self, name: str) -> list[int]:
        """The pids of every incarnation, from the log."""
        return [
            int(pid) for pid in re.findall(rf"{name} started \(pid (\d+)\)", "".join(self.log))
        ]

    def child_pids(self) -> list[int]:
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout
        pairs = [line.split() for line in listing.splitlines()]
        return [int(pid) for pid, parent in pairs if int(parent) == self.process.pid]


def is_running(pid: int) -> bool:
    """True if the process exists and is not a zombie."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")
