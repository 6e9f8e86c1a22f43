"""A real redis-server, of Debian's package `redis-tools`, for as long as a test needs it."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

WAIT = 30.0  # seconds; only a failing test waits that long


class RedisServer:
    """Listens on a free port of this machine, or on a Unix socket in ``folder``.

    It can be killed, stopped and started again; nothing is kept on the disk.
    """

    def __init__(self, folder: Path, *options: str, is_socket: bool = False):
        self._folder = folder
        self._options = options
        self.port = 0 if is_socket else free_port()
        self.socket = folder / "redis.sock"
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"

    def start(self) -> None:
        where = (
            ["--bind", "127.0.0.1", "--port", str(self.port)]
            if self.port
            else ["--port", "0", "--unixsocket", str(self.socket)]
        )
        program, name = server_program()
        self._process = subprocess.Popen(
            [name, *where, "--save", "", "--appendonly", "no", *self._options],
            executable=program,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "eady to accept connections" in line:
                return
        raise AssertionError("redis-server has ended before it was ready")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(WAIT)
            assert process.stdout is not None
            process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def server_program() -> tuple[str, str]:
    """The program and the name by which it is called.

    Debian's package redis-tools has the program under another name, and starts no service.
    """
    for program in ("redis-server", "redis-check-rdb"):
        if found := shutil.which(program):
            return found, "redis-server"
    raise AssertionError("redis-server is missing: install the package redis-tools")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
