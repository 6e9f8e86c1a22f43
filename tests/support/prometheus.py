"""Prometheus and its tool, as Debian's package `prometheus` has them."""

import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx

_ADDRESS = r"Listening on. address=(127\.0\.0\.1:\d+)"
_READY = "(Server is ready to receive web requests)"
# Where `make test-clients` unpacks the package if it is not installed.
_UNPACKED = Path(__file__).parents[2] / "build" / "prometheus" / "usr" / "bin"
WAIT = 60.0  # seconds; only a failing test waits that long


class Prometheus:
    """A Prometheus on a free port of this machine, from its start to the end of the block."""

    def __init__(self, folder: Path, config: str):
        (folder / "prometheus.yml").write_text(config)
        self.log: list[str] = []
        self._client = httpx.Client(timeout=WAIT)
        self._heard = threading.Condition()
        self._process = subprocess.Popen(
            [
                _program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Prometheus":
        try:
            self._wait_for(_READY)  # it listens before, and refuses each query
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.terminate()
        try:
            self._process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(WAIT)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What ``expression`` is now: a series in each item, with its ``metric`` and ``value``.

        Raises:
            AssertionError: Prometheus does not understand it.
        """
        answer = self._client.post(
            f"{self.url}/api/v1/query", data={"query": expression}
        ).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer["data"]["result"]

    def get(self, path: str) -> Any:
        """The data of another endpoint of the API."""
        return self._client.get(f"{self.url}/api/v1/{path}").json()["data"]

    def wait_until(self, is_there: Callable[[], bool], what: str) -> None:
        """Ask again and again: Prometheus tells nobody when it has scraped."""
        paused = threading.Event()
        for _ in range(int(WAIT * 4)):
            if is_there():
                return
            paused.wait(0.25)
        raise AssertionError(what)

    @property
    def url(self) -> str:
        return f"http://{self._wait_for(_ADDRESS)}"

    def _wait_for(self, pattern: str) -> str:
        def found() -> re.Match[str] | None:
            return re.search(pattern, "".join(self.log))

        with self._heard:
            assert self._heard.wait_for(found, WAIT), "".join(self.log)
            match = found()
        assert match is not None
        return match[1]

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                with self._heard:
                    self.log.append(line)
                    self._heard.notify_all()


def promtool(*arguments: object, folder: Path) -> str:
    """What `promtool` prints; it must find nothing wrong."""
    ended = subprocess.run(
        [_program("promtool"), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=_UNPACKED)
    assert found is not None, f"{name} is missing: install the package prometheus"
    return found
