"""The settings of glibc's malloc on Linux: one step reuses the memory that another one freed.

By default, glibc returns arrays of more than a few hundred kilobytes to the system as soon as
they are freed, and the kernel has to clear every page of the next array. On the CPU backend,
where the intermediate results of a step have megabytes, that took a sixth of the time.
"""

import ctypes
import sys

# mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAX_MMAP_THRESHOLD = 32 << 20  # bytes: the limit of glibc; KV caches are larger
_TRIM_THRESHOLD = 256 << 20  # bytes that may stay free at the end of the heap


def keep_freed_arrays() -> None:
    """Keep freed arrays of up to 32 MB in the heap."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
        library.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)


def release() -> None:
    """Return free memory to the system."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    # Other C libraries do not have the function.
    return library if hasattr(library, "malloc_trim") else None
