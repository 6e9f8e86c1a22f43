"""A fast BLAS for MLX's CPU backend on Linux.

The mlx wheel for Linux contains the reference BLAS. If the system's OpenBLAS is in the global
symbol scope before mlx is imported, MLX's matrix products bind to it: an order of magnitude
faster.
"""

import ctypes
import logging
import os
import subprocess
import sys
from pathlib import Path

log = logging.getLogger("mlxnode.engine")

LIBRARY = "libopenblas.so.0"  # Debian and Ubuntu: the package libopenblas0-pthread
CPUINFO = Path("/proc/cpuinfo")

_PRINT_CORE = (
    f"import ctypes; library = ctypes.CDLL({LIBRARY!r}); "
    "library.openblas_get_corename.restype = ctypes.c_char_p; "
    "print(library.openblas_get_corename().decode())"
)


def preload_blas() -> bool:
    """Load the system's OpenBLAS; return True if the library is there.

    Call this before mlx is imported. On macOS, MLX uses Accelerate and nothing is done.
    """
    if sys.platform != "linux":
        return False
    # More threads slow each other down: MLX and the other processes use the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "OPENBLAS_CORETYPE" not in os.environ and _is_core_misdetected():
        os.environ["OPENBLAS_CORETYPE"] = "Haswell"
    try:
        ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        log.info("%s is not installed: matrix products on the CPU will be slow", LIBRARY)
        return False
    return True


def _is_core_misdetected() -> bool:
    """True if OpenBLAS takes a processor with AVX2 for the oldest core type.

    OpenBLAS does so with processors that are newer than the library, and is eight times
    slower then. The choice is made while the library is loaded, so another process loads it.
    """
    flags = CPUINFO.read_text().split() if CPUINFO.exists() else []
    if not {"avx2", "fma"} <= set(flags):
        return False
    result = subprocess.run([sys.executable, "-c", _PRINT_CORE], capture_output=True, text=True)
    return result.stdout.strip() == "Prescott"
