"""A fast BLAS for MLX's CPU backend on Linux.

The mlx wheel for Linux brings the reference BLAS. When the system's OpenBLAS is loaded into
the global symbol scope first, MLX's matrix products bind to it: about twelve times faster.
"""

import ctypes
import logging
import os
import sys

log = logging.getLogger("mlxnode.engine")

LIBRARY = "libopenblas.so.0"  # Debian and Ubuntu: the package libopenblas0-pthread


def preload_blas() -> bool:
    """Load the system's OpenBLAS if there is one; has to come before mlx is imported.

    Returns whether it is loaded. On macOS, MLX uses Accelerate and nothing is done.
    """
    if sys.platform != "linux":
        return False
    # More threads only get in each other's way: MLX and the other processes use the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        log.info("%s is not installed: matrix products on the CPU will be slow", LIBRARY)
        return False
    return True
