import os
import subprocess
import sys

import pytest

from mlxnode.engine.cpu import blas


def test_preload_blas_does_nothing_off_linux(monkeypatch):
    monkeypatch.setattr(blas.sys, "platform", "darwin")
    monkeypatch.setattr(blas.ctypes, "CDLL", None)
    assert blas.preload_blas() is False


def test_preload_blas_says_when_the_library_is_missing(monkeypatch, caplog):
    monkeypatch.setattr(blas.sys, "platform", "linux")
    monkeypatch.setattr(blas, "LIBRARY", "libnone.so.0")
    with caplog.at_level("INFO"):
        assert blas.preload_blas() is False
    assert "libnone.so.0 is not installed" in caplog.text


def test_preload_blas_sets_one_thread_unless_told_otherwise():
    code = (
        "import os; from mlxnode.engine.cpu.blas import preload_blas; preload_blas(); "
        "print(os.environ.get('OPENBLAS_NUM_THREADS'))"
    )

    def threads(**environment: str) -> str:
        inherited = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
        command = [sys.executable, "-c", code]
        return subprocess.check_output(command, env=inherited | environment, text=True).strip()

    assert threads(OPENBLAS_NUM_THREADS="3") == "3"
    assert threads() == ("1" if sys.platform == "linux" else "None")


@pytest.mark.parametrize(
    ("flags", "core", "chosen"),
    [
        ("sse2 avx2 fma", "Prescott", "Haswell"),
        ("sse2 avx2 fma", "SkylakeX", None),
        ("sse2", "Prescott", None),
    ],
)
def test_preload_blas_corrects_a_core_type_that_is_too_old(
    monkeypatch, tmp_path, flags, core, chosen
):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags : {flags}\n")
    monkeypatch.setattr(blas, "CPUINFO", cpuinfo)
    monkeypatch.setattr(blas, "LIBRARY", "libnone.so.0")
    monkeypatch.setattr(blas, "_PRINT_CORE", f"print({core!r})")
    monkeypatch.setattr(blas.sys, "platform", "linux")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "")
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    blas.preload_blas()
    assert os.environ.get("OPENBLAS_CORETYPE") == chosen


def test_preload_blas_leaves_the_choice_of_a_core_to_the_user(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    monkeypatch.setattr(blas, "_is_core_misdetected", None)
    monkeypatch.setattr(blas, "LIBRARY", "libnone.so.0")
    blas.preload_blas()
    assert os.environ["OPENBLAS_CORETYPE"] == "Zen"
