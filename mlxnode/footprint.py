"""The memory of a process as the system counts it.

Unlike MLX's own figures, it has the interpreter, libraries and freed memory that is not yet
returned to the system.
"""

import ctypes
import functools
import os
import resource
import sys
from pathlib import Path

_PROC = Path("/proc")
_RUSAGE_INFO_V0 = 0
_PRESSURE_LEVEL = b"kern.memorystatus_vm_pressure_level"
_CRITICAL = 4  # 1: normal, 2: warning


class _RusageInfo(ctypes.Structure):
    """``struct rusage_info_v0`` of Apple's <sys/resource.h>."""

    _fields_ = (
        ("ri_uuid", ctypes.c_uint8 * 16),
        ("ri_user_time", ctypes.c_uint64),
        ("ri_system_time", ctypes.c_uint64),
        ("ri_pkg_idle_wkups", ctypes.c_uint64),
        ("ri_interrupt_wkups", ctypes.c_uint64),
        ("ri_pageins", ctypes.c_uint64),
        ("ri_wired_size", ctypes.c_uint64),
        ("ri_resident_size", ctypes.c_uint64),
        ("ri_phys_footprint", ctypes.c_uint64),
        ("ri_proc_start_abstime", ctypes.c_uint64),
        ("ri_proc_exit_abstime", ctypes.c_uint64),
    )


def footprint() -> int:
    """Bytes of physical memory that this process uses.

    On macOS, the figure that the system itself acts on (``phys_footprint``, with the memory of
    the GPU); on Linux, the resident set. Elsewhere, the largest resident set so far.
    """
    size = footprint_of(os.getpid())
    return _largest_resident_set() if size is None else size


def footprint_of(pid: int) -> int | None:
    """The same of another process of this user; None if the system does not tell."""
    if sys.platform == "darwin":
        return phys_footprint(_system_library(), pid)
    return _resident_set(pid)


def phys_footprint(library: ctypes.CDLL, pid: int) -> int | None:
    """``ri_phys_footprint`` of a process; None if the system does not tell."""
    info, ask = _RusageInfo(), getattr(library, "proc_pid_rusage", None)
    if ask is None or ask(pid, _RUSAGE_INFO_V0, ctypes.byref(info)) != 0:
        return None
    return info.ri_phys_footprint


def is_system_short_of_memory() -> bool:
    """True if macOS calls its memory pressure critical; it then ends processes soon."""
    return sys.platform == "darwin" and pressure_level(_system_library()) >= _CRITICAL


def pressure_level(library: ctypes.CDLL) -> int:
    """The system's level of memory pressure; 0 if the system does not tell."""
    level = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(level))
    ask = getattr(library, "sysctlbyname", None)
    if ask is None:
        return 0
    failed = ask(_PRESSURE_LEVEL, ctypes.byref(level), ctypes.byref(size), None, 0)
    return 0 if failed else level.value


@functools.cache
def _system_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _resident_set(pid: int) -> int | None:
    """The second number of /proc/PID/statm, in bytes; None without /proc."""
    try:
        pages = int((_PROC / str(pid) / "statm").read_bytes().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _largest_resident_set() -> int:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024
