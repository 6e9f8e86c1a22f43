"""A real node on tiny models for the tests of faults: its load, its faults, its recovery."""

import asyncio
import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

from support import tiny
from support.node_process import NodeProcess, is_running

from mlxnode.figures import NodeFigures
from mlxnode.process.status_socket import read_status

WAIT = 300.0  # seconds; only a failing test waits that long
HANG_TIMEOUT = 8.0  # seconds
CONFIG = """
[api]
address = "127.0.0.1:0"
require_auth = false
[api.models.chat]
path = "chat"
type = "chat"
[api.models.vectors]
path = "vectors"
type = "embedding"
[server]
workers = {workers}
hang_timeout = {hang_timeout}
{server}
[engine]
kernels = "ops"
{engine}
"""


class Answer(NamedTuple):
    """What came back: the status, and the text of the answer or the error."""

    status: int
    text: str
    headers: dict[str, str]


class Stream:
    """One streamed completion over a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self.writer = reader, writer
        self.text = ""
        self.error: str | None = None  # of the stream, or "cut" if it ended without a word

    async def read(self, num_events: int | None = None) -> "Stream":
        """Read events, to the end unless ``num_events`` are enough."""
        num_read = 0
        async with asyncio.timeout(WAIT):
            with contextlib.suppress(ConnectionError):
                while line := await self._reader.readline():
                    if not line.startswith(b"data: "):
                        continue
                    if line.startswith(b"data: [DONE]"):
                        return self
                    event = json.loads(line[6:])
                    if "error" in event:
                        self.error = event["error"]["message"]
                        return self
                    self.text += event["choices"][0].get("text") or ""
                    num_read += 1
                    if num_events is not None and num_read >= num_events:
                        return self
        self.error = "cut"
        return self

    def close(self) -> None:
        self.writer.close()


class FaultyNode(NodeProcess):
    """A node with a chat and an embedding model, and what tests of faults do to it."""

    def __init__(
        self,
        folder: Path,
        *,
        server: str = "",
        engine: str = "",
        workers: int = 2,
        **options: Any,
    ):
        if not (folder / "chat").exists():
            tiny.make_chat_model(folder / "chat", context=16_384)
            tiny.make_chat_model(folder / "vectors", context=64)
        config = CONFIG.format(
            workers=workers, hang_timeout=HANG_TIMEOUT, server=server, engine=engine
        )
        super().__init__(folder, config, **options)
        self.expected: str | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def connect(
        self, limit: int = 2**16
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of which at most about ``limit`` bytes are read ahead."""
        pair = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        self._writers.append(pair[1])
        return pair

    async def hang_up(self) -> None:
        """Close all connections of the test."""
        while self._writers:
            writer = self._writers.pop()
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(self, path: str = "/v1/completions", **body: Any) -> Answer:
        """One request and its whole answer."""
        reader, writer = await self.connect()
        try:
            async with asyncio.timeout(WAIT):
                writer.write(request(path, body))
                status = int((await reader.readline()).split()[1])
                headers = {}
                while (line := await reader.readline()).strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                content = json.loads(await reader.readexactly(int(headers["content-length"])))
        finally:
            writer.close()
        if status != 200:
            return Answer(status, content["error"]["message"], headers)
        choices = content.get("choices", [{}])
        return Answer(status, choices[0].get("text", str(content)), headers)

    async def answer(self, prompt: str = "The answer", max_tokens: int = 12) -> Answer:
        """A short greedy answer."""
        return await self.ask(**completion(prompt, max_tokens))

    async def open_stream(self, prompt: str, max_tokens: int = 8000) -> Stream:
        """A greedy stream that ends after ``max_tokens`` tokens and not before."""
        reader, writer = await self.connect()
        writer.write(
            request("/v1/completions", completion(prompt, max_tokens) | {"stream": True})
        )
        return Stream(reader, writer)

    async def streams(self, name: str, count: int = 32) -> list[Stream]:
        """Streams with prompts of their own, each with tokens already."""
        made = [await self.open_stream(f"{name} {i}") for i in range(count)]
        await asyncio.gather(*(stream.read(2) for stream in made))
        assert not [stream.error for stream in made if stream.error]
        return made

    async def recovers(self) -> float:
        """Seconds until the node gives the answer of the start again, and has its processes."""
        started = time.monotonic()
        async with asyncio.timeout(WAIT):
            while not await self._is_well():
                await asyncio.sleep(0.02)
        return time.monotonic() - started

    async def _is_well(self) -> bool:
        try:
            found = await self.answer()
            health = await self.ask("/health")
        except (OSError, IndexError, asyncio.IncompleteReadError):
            return False
        if found.status != 200 or health.status != 200:
            return False
        if self.expected is None:
            self.expected = found.text
        assert found.text == self.expected
        # The figures may be older than the fault.
        return all(
            process.state == "ready" and process.pid is not None and is_running(process.pid)
            for process in self.figures().processes
        )

    def figures(self) -> NodeFigures:
        return read_status(self.port)

    async def is_clean(self) -> None:
        """Wait until nothing runs, waits or is claimed, but for cached prefixes."""
        figures = None
        try:
            async with asyncio.timeout(WAIT):
                while True:
                    figures = self.figures()
                    if figures.engine is not None and _is_idle(figures):
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(figures) from None

    async def streams_on(self, worker: int, name: str, count: int = 16) -> list[Stream]:
        """Streams of this worker: the others are stopped while it accepts them."""
        others = [pid for pid in self.worker_pids() if pid != worker]
        for pid in others:
            self.kill(pid, signal.SIGSTOP)
        try:
            return await self.streams(name, count)
        finally:
            for pid in others:
                self.kill(pid, signal.SIGCONT)

    def num_descriptors(self) -> dict[int, int]:
        """The open descriptors of each process; empty where the system does not list them."""
        folders = {pid: Path(f"/proc/{pid}/fd") for pid in self.child_pids() if is_running(pid)}
        return {pid: len(os.listdir(f)) for pid, f in folders.items() if f.is_dir()}

    @staticmethod
    def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(pid, number)


def request(path: str, body: dict[str, Any] | None) -> bytes:
    """The bytes of a request; without a body, of a GET."""
    content = json.dumps(body).encode() if body else b""
    head = (
        f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def completion(prompt: str, max_tokens: int) -> dict[str, Any]:
    """A greedy completion of exactly ``max_tokens`` tokens."""
    text = f"{prompt}: "
    fixed = {"model": "chat", "temperature": 0, "logit_bias": {str(tiny.EOS_ID): -100}}
    return fixed | {"prompt": text, "max_tokens": max_tokens}


def _is_idle(figures: NodeFigures) -> bool:
    assert figures.engine is not None
    works = [model.work for model in figures.engine.models]
    prefixes = sum(work.prefix_bytes for work in works)
    is_free = figures.engine.memory.kv_claimed <= 2 * prefixes
    return is_free and not any(work.num_running or work.num_waiting for work in works)
