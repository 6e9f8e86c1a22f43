import os
import subprocess
import sys

from mlxnode.engine import blas


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
        "import os; from mlxnode.engine.blas import preload_blas; preload_blas(); "
        "print(os.environ.get('OPENBLAS_NUM_THREADS'))"
    )

    def threads(**environment: str) -> str:
        inherited = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
        command = [sys.executable, "-c", code]
        return subprocess.check_output(command, env=inherited | environment, text=True).strip()

    assert threads(OPENBLAS_NUM_THREADS="3") == "3"
    assert threads() == ("1" if sys.platform == "linux" else "None")
