"""A fast BLAS for MLX's CPU backend on Linux.

The mlx wheel for Linux brings the reference BLAS. When the system's OpenBLAS is loaded into
the global symbol scope first, MLX's matrix products bind to it: an order of magnitude faster.
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

_ASK_CORE = (
    f"import ctypes; library = ctypes.CDLL({LIBRARY!r}); "
    "library.openblas_get_corename.restype = ctypes.c_char_p; "
    "print(library.openblas_get_corename().decode())"
)


def preload_blas() -> bool:
    """Load the system's OpenBLAS if there is one; has to come before mlx is imported.

    Returns whether it is loaded. On macOS, MLX uses Accelerate and nothing is done.
    """
    if sys.platform != "linux":
        return False
    # More threads only get in each other's way: MLX and the other processes use the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "OPENBLAS_CORETYPE" not in os.environ and _is_misjudged():
        os.environ["OPENBLAS_CORETYPE"] = "Haswell"
    try:
        ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        log.info("%s is not installed: matrix products on the CPU will be slow", LIBRARY)
        return False
    return True


def _is_misjudged() -> bool:
    """Whether OpenBLAS takes a processor with AVX2 for the oldest that it knows.

    It does so with processors that are newer than itself, and is eight times slower then.
    It decides once, while it is loaded, so another process is asked.
    """
    flags = CPUINFO.read_text().split() if CPUINFO.exists() else []
    if not {"avx2", "fma"} <= set(flags):
        return False
    asked = subprocess.run([sys.executable, "-c", _ASK_CORE], capture_output=True, text=True)
    return asked.stdout.strip() == "Prescott"
