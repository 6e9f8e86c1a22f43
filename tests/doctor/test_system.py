"""The checks of the machine, on machines that this one is not."""

import platform
import sys

import pytest

from mlxnode.doctor import system


@pytest.fixture
def mac(monkeypatch):
    """A function that makes this machine a Mac with these facts."""

    def make(macos="15.5", machine="arm64", **values: str) -> None:
        facts = {"machdep.cpu.brand_string": "Apple M1", "hw.memsize": "8589934592"} | {
            name.replace("__", "."): value for name, value in values.items()
        }
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(platform, "mac_ver", lambda: (macos, ("", "", ""), machine))
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(system, "sysctl", facts.get)

    return make


@pytest.mark.parametrize(
    ("macos", "status"),
    [("13.7.8", "fail"), ("14.0", "ok"), ("15.5", "ok"), ("26.1", "ok"), ("", "fail")],
)
def test_operating_system_is_new_enough(mac, macos, status):
    mac(macos=macos)
    found = system.operating_system()
    assert (found.status, found.text) == (status, f"macOS {macos}")
    assert bool(found.advice) is (status == "fail")


def test_processor_of_a_mac(mac):
    mac()
    found = system.processor()
    assert (found.status, found.text) == ("ok", "Apple M1, arm64, 8.59 GB of memory")


def test_processor_under_rosetta(mac):
    mac(machine="x86_64", sysctl__proc_translated="1")
    found = system.processor()
    assert found.status == "fail"
    assert "Rosetta" in found.text and "native Python" in found.advice


def test_processor_of_an_intel_mac(mac):
    values = {"sysctl__proc_translated": "0", "machdep__cpu__brand_string": "Intel Core i7"}
    mac(machine="x86_64", **values)
    found = system.processor()
    assert (found.status, "Apple silicon" in found.advice) == ("fail", True)


def test_python_that_is_too_old(monkeypatch):
    assert system.python().status == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 10, 14))
    assert system.python().status == "fail"


def test_packages_that_are_missing(monkeypatch):
    found = system.packages()
    assert found.status == "ok" and "mlx-lm" in found.text

    def version(name: str) -> str:
        if name == "mlx-lm":
            raise system.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(system, "version", version)
    found = system.packages()
    assert (found.status, found.text) == ("fail", "mlx-lm is not installed")


@pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac")
def test_system_says_what_does_not_apply_elsewhere():
    assert {system.operating_system().status, system.processor().status} == {"info"}
