"""The limits of the system, high and low."""

import resource
import shutil
import sys
from pathlib import Path

import pytest

from mlxnode.doctor import limits


@pytest.fixture
def files(monkeypatch):
    """A function that sets the limits on descriptors; they change as on a real system."""

    def make(soft: int, hard: int) -> None:
        now = [soft, hard]

        def setrlimit(_: int, values: tuple[int, int]) -> None:
            assert hard == resource.RLIM_INFINITY or values[0] <= hard
            now[:] = values

        monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(now))
        monkeypatch.setattr(resource, "setrlimit", setrlimit)

    return make


@pytest.mark.parametrize(
    ("soft", "hard", "status"),
    [
        (256, resource.RLIM_INFINITY, "ok"),
        (256, 256, "warn"),
        (256, 2047, "warn"),
        (256, 2048, "ok"),
        (10_000, 10_000, "ok"),
    ],
)
def test_descriptors_are_what_a_node_reaches(files, soft, hard, status):
    files(soft, hard)
    found = limits.descriptors()
    assert found.status == status
    assert bool(found.advice) is (status == "warn")
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)  # of this process


def test_queue_of_connections(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "is_mac", lambda: True)
    monkeypatch.setattr(limits, "sysctl", {"kern.ipc.somaxconn": "128"}.get)
    assert "128 new ones" in limits.queue_of_connections().text
    monkeypatch.setattr(limits, "is_mac", lambda: False)
    monkeypatch.setattr(limits, "_SOMAXCONN", tmp_path / "missing")
    assert limits.queue_of_connections().status == "info"


def test_sleep_command(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "is_mac", lambda: True)
    monkeypatch.setattr(limits, "_CAFFEINATE", str(tmp_path / "caffeinate"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert limits.sleep_command().status == "warn"
    (tmp_path / "caffeinate").touch()
    assert limits.sleep_command().status == "ok"
    monkeypatch.setattr(limits, "is_mac", lambda: False)
    assert limits.sleep_command().status == "info"


def test_report_says_how_sockets_behave_here():
    found = {finding.name: finding.text for finding in limits.report_limits().findings}
    assert int(found["pipe buffer"].split()[0]) > 0
    if sys.platform == "linux":
        assert "exclude each other" in found["addresses"]
        assert Path("/proc/sys/net/core/somaxconn").read_text().strip() in found["connections"]
