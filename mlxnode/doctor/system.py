"""The machine, its system, and the versions of what is installed."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from mlxnode import __version__
from mlxnode.doctor.commands import sysctl
from mlxnode.doctor.findings import Finding, Section, gigabytes

OLDEST_MACOS = 14
OLDEST_PYTHON = (3, 11)
_PACKAGES = ("mlx", "mlx-metal", "mlx-lm", "transformers", "tokenizers", "sanic", "uvloop")
_NATIVE = "install a native Python: brew install python@3.13"


def check_system() -> Section:
    """The checks of the machine and its Python."""
    return Section("System", [operating_system(), processor(), python(), packages()])


def is_mac() -> bool:
    return sys.platform == "darwin"


def operating_system() -> Finding:
    """macOS, and whether it is new enough for MLX."""
    if not is_mac():
        name = f"{platform.system()} {platform.release()}"
        return Finding("system", "info", f"{name}: no Mac, so MLX computes on the CPU")
    release = platform.mac_ver()[0]
    major = int(release.split(".")[0] or 0)
    if major < OLDEST_MACOS:
        return Finding(
            "system", "fail", f"macOS {release}", f"MLX needs macOS {OLDEST_MACOS} or newer"
        )
    return Finding("system", "ok", f"macOS {release}")


def processor() -> Finding:
    """The chip and its memory, and whether Python runs on it without translation."""
    machine = platform.machine()
    if not is_mac():
        return Finding("processor", "info", machine)
    chip = sysctl("machdep.cpu.brand_string") or "unknown chip"
    memory = sysctl("hw.memsize")
    text = f"{chip}, {machine}"
    if memory is not None and memory.isdigit():
        text += f", {gigabytes(int(memory))} of memory"
    if machine == "arm64":
        return Finding("processor", "ok", text)
    if sysctl("sysctl.proc_translated") == "1":
        return Finding("processor", "fail", f"{text}: Python runs under Rosetta", _NATIVE)
    return Finding("processor", "fail", text, "MLX needs Apple silicon (M1 or newer)")


def python() -> Finding:
    """The version of Python, and where it is."""
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("Python", "fail", text, _NATIVE)
    return Finding("Python", "ok", text)


def packages() -> Finding:
    """The versions of mlxnode and of the packages that it depends on most."""
    found = [f"mlxnode {__version__}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    missing = [name for name in ("mlx", "mlx-lm") if not any(f.startswith(name) for f in found)]
    if missing:
        text = f"{', '.join(missing)} is not installed"
        return Finding("packages", "fail", text, "install mlxnode again")
    return Finding("packages", "ok", ", ".join(found))
