"""What would make a node slow: settings, swapped memory, the power settings of a Mac."""

import pytest

from mlxnode.config.file import load_config
from mlxnode.doctor import slow

PMSET = """System-wide power settings:
Currently in use:
 standby              1
 lowpowermode         {low}
 sleep                {minutes} (sleep prevented by powerd)
 displaysleep         10
"""


def statuses(tmp_path, text: str) -> dict[str, str]:
    file = tmp_path / "config.toml"
    file.write_text(f"[api]\nrequire_auth = false\n{text}")
    section = slow.check_slow(load_config(file, environ={}))
    return {finding.name: finding.status for finding in section.findings}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A Linux machine with OpenBLAS and nothing swapped out."""
    monkeypatch.setattr(slow, "is_mac", lambda: False)
    monkeypatch.setattr(slow.ctypes.util, "find_library", lambda name: "libopenblas.so.0")
    monkeypatch.setattr(slow, "swap_used", lambda: 0)


def test_slow_finds_nothing_in_the_defaults(tmp_path):
    assert statuses(tmp_path, "") == {"swap": "ok", "settings": "ok"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[engine]\nbuffer_cache_gb = 0.1\n", "engine.buffer_cache_gb"),
        ("[engine]\nprefix_cache_gb = 0\n", "engine.prefix_cache_gb"),
        ("[engine]\nmax_batch_size = 1\n", "engine.max_batch_size"),
        ("[server]\nworkers = 64\n", "server.workers"),
        ('[server]\nlog_level = "debug"\n', "server.log_level"),
    ],
)
def test_slow_setting_is_named_with_a_way_out(tmp_path, monkeypatch, text, name):
    monkeypatch.setattr(slow.os, "cpu_count", lambda: 8)
    found = statuses(tmp_path, text)
    assert found.pop(name) == "warn" and found == {"swap": "ok"}


def test_slow_settings_of_a_mac(tmp_path, monkeypatch):
    monkeypatch.setattr(slow, "is_mac", lambda: True)
    monkeypatch.setattr(slow, "output_of", lambda *_: PMSET.format(low=1, minutes=1))
    text = '[engine]\nkernels = "ops"\n[server]\nprevent_sleep = false\n'
    assert statuses(tmp_path, text) == {
        "power": "warn",
        "idle sleep": "info",
        "swap": "ok",
        "engine.kernels": "warn",
        "server.prevent_sleep": "warn",
    }


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (PMSET.format(low=0, minutes=0), [("idle sleep", "ok")]),
        (PMSET.format(low=0, minutes=10), [("idle sleep", "info")]),
        (None, [("power", "info")]),
    ],
)
def test_power_settings_are_read_from_pmset(monkeypatch, answer, found):
    monkeypatch.setattr(slow, "output_of", lambda *_: answer)
    assert [(finding.name, finding.status) for finding in slow.power()] == found


def test_slow_without_openblas_or_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(slow.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(slow.sys, "platform", "linux")
    monkeypatch.setattr(slow, "swap_used", lambda: 3 * 10**9)
    assert statuses(tmp_path, "") == {"BLAS": "warn", "swap": "warn"}


def test_slow_without_a_valid_configuration_looks_at_the_machine():
    assert [finding.name for finding in slow.check_slow(None).findings] == ["swap", "settings"]
