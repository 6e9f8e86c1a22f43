"""The limit on open files and sockets of a process: each takes one file descriptor."""

import contextlib
import ctypes
import logging
import os
import resource
from collections.abc import Iterator

log = logging.getLogger("mlxnode.supervisor")

# A worker needs one descriptor for each connection. The second value is the highest that macOS
# accepts where its hard limit says "unlimited".
_LIMITS = (65_536, 10_240)
_LOW = 1024  # a lower limit leaves a worker few connections


def raise_descriptor_limit() -> None:
    """Raise the soft limit of this process, which its children inherit; never lower it.

    Shells and launchd on macOS set 256, far fewer than the connections of one worker.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in _LIMITS:
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        if before == resource.RLIM_INFINITY or before >= limit:
            break
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            break
    reached = descriptor_limit()
    level = logging.WARNING if reached < _LOW else logging.INFO
    log.log(level, "open files: at most %d for each process (it was %d)", reached, before)


def descriptor_limit() -> int:
    """The number of files and sockets that this process can have open.

    macOS accepts a soft limit above its kern.maxfilesperproc, but applies the lower of the two
    (bsd/kern/kern_resource.c of xnu). getdtablesize() returns the lower one.
    """
    limit = ctypes.CDLL(None).getdtablesize()
    return limit if limit > 0 else _LIMITS[0]  # negative: unlimited


def num_open_descriptors() -> int:
    """The number of files and sockets that this process has open."""
    return len(os.listdir("/dev/fd")) - 1  # without the one that lists the folder


@contextlib.contextmanager
def unchanged_limits() -> Iterator[None]:
    """Ignore changes of the process's limits, for the import of a module that makes some.

    The import of mlx_lm sets the limits of descriptors to (2048, 4096). That is lower than the
    supervisor's, cannot be undone, and raises where the hard limit is below 4096.
    """
    own = resource.setrlimit
    resource.setrlimit = lambda _resource, _limits, /: None
    try:
        yield
    finally:
        resource.setrlimit = own
