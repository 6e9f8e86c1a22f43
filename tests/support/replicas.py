"""Two nodes with the same configuration and the same tiny model, as behind a balancer."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
from support import tiny
from support.node_process import NodeProcess

KEY = "sk-replicas"
MODEL = "chat"
CONFIG = """
[api]
address = "{address}"
api_key = "{key}"
[api.models.chat]
path = "{model}"
type = "chat"
[server]
workers = 2
metrics = "public"
drain_delay = {drain_delay}
"""


class Replica:
    """One node, which can be started again at its address."""

    def __init__(self, folder: Path, model: Path, drain_delay: float = 0.0):
        self._folder = folder
        self._model = model
        self._drain_delay = drain_delay
        folder.mkdir()
        self.address = "127.0.0.1:0"
        self._stack = contextlib.ExitStack()
        self.process = self.start()

    def start(self) -> NodeProcess:
        """Start it, and wait until it serves."""
        config = CONFIG.format(
            address=self.address, key=KEY, model=self._model, drain_delay=self._drain_delay
        )
        process = NodeProcess(self._folder, config)
        self._stack.enter_context(process)
        process.wait_ready()
        self.address = process.url.removeprefix("http://")
        self.process = process
        return process

    def ensure(self) -> None:
        """Start it again if it has ended."""
        if self.process.process.poll() is not None:
            self.start()

    def drain(self) -> None:
        self.process.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all its processes at once, as a power cut would."""
        pids = [self.process.process.pid, *self.process.child_pids()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.process.wait()

    def requests(self) -> set[str]:
        """The x-request-ids of the requests that are in flight here."""
        return {one["request_id"] for one in self._get("/v1/requests")["data"]}

    def close(self) -> None:
        self._stack.close()

    def _get(self, path: str) -> dict[str, Any]:
        url = f"{self.process.url}{path}"
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.get(url, headers=headers, timeout=30).raise_for_status().json()


@contextlib.contextmanager
def two_replicas(folder: Path, drain_delay: float = 0.0) -> Iterator[list[Replica]]:
    """Two nodes, until the end of the block."""
    tiny.make_chat_model(folder / "model", context=8192)
    nodes: list[Replica] = []
    try:
        for name in ("one", "two"):
            nodes.append(Replica(folder / name, folder / "model", drain_delay))
        yield nodes
    finally:
        for node in nodes:
            node.close()
