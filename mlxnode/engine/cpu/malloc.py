"""The C library's heap on Linux: what one step frees, the next one takes.

As shipped, glibc gives arrays of more than a few hundred kilobytes back to the system as soon
as they are freed, and the kernel has to clear every page of the next one. On the CPU backend,
where the intermediate results of a step have megabytes, that took a sixth of the time.
"""

import ctypes
import sys

# mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20  # bytes: the most that glibc takes; KV caches are larger
_KEPT = 256 << 20  # bytes that may lie free at the end of the heap


def keep_arrays() -> None:
    """Let freed arrays of up to 32 MB stay in the heap."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def give_back() -> None:
    """Return what is free to the system."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None  # other C libraries have none
