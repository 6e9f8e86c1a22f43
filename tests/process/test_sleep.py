"""The command that keeps a Mac awake, played by a script on PATH."""

import os
import stat
from pathlib import Path

import pytest
from support.node_process import is_running

from mlxnode.process import sleep
from mlxnode.process.sleep import FIRST_BACKOFF, RELEASE_AFTER, SleepBlocker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.path.exists("/usr/bin/caffeinate"), reason="macOS's own comes before the script"
    ),
]


class Stub:
    """A ``caffeinate`` that writes down its starts, and ends if the folder has ``broken``."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._starts = folder / "starts"
        script = (
            f"#!/bin/sh\necho $$ $* >> {self._starts}\n"
            f"test -e {folder}/broken && exit 3\nexec tail -f /dev/null\n"
        )
        (folder / "caffeinate").write_text(script)
        (folder / "caffeinate").chmod(stat.S_IRWXU)

    def starts(self, count: int) -> list[list[str]]:
        """The pid and the arguments of each start, once there are ``count``."""
        from threading import Event

        for _ in range(500):
            lines = self._starts.read_text().splitlines() if self._starts.exists() else []
            if len(lines) >= count:
                return [line.split() for line in lines]
            Event().wait(0.02)
        raise AssertionError(f"{lines} instead of {count} starts")


@pytest.fixture
def stub(tmp_path, monkeypatch) -> Stub:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return Stub(tmp_path)


@pytest.fixture
def blocker(stub):
    blocker = SleepBlocker()
    yield blocker
    blocker.release()


def test_blocker_holds_the_command_while_requests_run(stub, blocker):
    blocker.update(False, 0.0)
    blocker.update(True, 1.0)
    [[pid, *arguments]] = stub.starts(1)
    assert arguments == ["-i", "-w", str(os.getpid())]
    blocker.update(True, 1000.0)
    blocker.update(False, 1000.0 + RELEASE_AFTER / 2)
    blocker.update(True, 1000.0 + RELEASE_AFTER / 2)  # the next request comes soon
    blocker.update(False, 1000.0 + RELEASE_AFTER)
    assert is_running(int(pid))
    blocker.update(False, 1000.0 + 2 * RELEASE_AFTER)
    assert not is_running(int(pid))
    blocker.update(True, 2000.0)
    assert len(stub.starts(2)) == 2


def test_blocker_starts_a_command_that_ended_again_but_not_at_once(stub, blocker, caplog):
    (stub.folder / "broken").touch()
    blocker.update(True, 0.0)
    stub.starts(1)
    blocker._process.wait()
    blocker.update(True, FIRST_BACKOFF / 2)
    (stub.folder / "broken").unlink()
    blocker.update(True, FIRST_BACKOFF + 0.1)
    (_, [pid, *_]) = stub.starts(2)
    assert is_running(int(pid))
    assert caplog.text.count("caffeinate ended: 3") == 1


def test_blocker_goes_on_without_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    blocker = SleepBlocker()
    blocker.update(True, 0.0)
    blocker.release()


def test_blocker_goes_on_with_a_command_that_cannot_be_started(stub, caplog):
    (stub.folder / "caffeinate").write_text("no script")
    blocker = SleepBlocker()
    blocker.update(True, 0.0)
    blocker.update(True, 0.1)
    assert caplog.text.count("cannot be started") == 1


def test_missing_command_is_one_line_on_a_mac_and_none_elsewhere(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    SleepBlocker()
    assert caplog.text == ""
    monkeypatch.setattr(sleep.sys, "platform", "darwin")
    SleepBlocker()
    assert caplog.text.count("there is no caffeinate") == 1
