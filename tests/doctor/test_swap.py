"""How much memory is swapped out, as each system says."""

import pytest

from mlxnode.doctor import slow


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        ("total = 2048.00M  used = 1024.50M  free = 1023.50M  (encrypted)", 1_074_266_112),
        ("", None),
        (None, None),
    ],
)
def test_swap_of_a_mac(monkeypatch, answer, used):
    monkeypatch.setattr(slow, "is_mac", lambda: True)
    monkeypatch.setattr(slow, "sysctl", lambda name: answer)
    assert slow.swap_used() == used


@pytest.mark.parametrize(
    ("text", "used"),
    [("SwapTotal:  2000 kB\nSwapFree:  500 kB\n", 1_536_000), ("MemTotal: 1 kB\n", None)],
)
def test_swap_of_linux(monkeypatch, tmp_path, text, used):
    (tmp_path / "meminfo").write_text(text)
    monkeypatch.setattr(slow, "is_mac", lambda: False)
    monkeypatch.setattr(slow, "_MEMINFO", tmp_path / "meminfo")
    assert slow.swap_used() == used
    monkeypatch.setattr(slow, "_MEMINFO", tmp_path / "missing")
    assert slow.swap_used() is None
