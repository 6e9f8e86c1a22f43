"""The limit on open files and sockets of a process."""

import contextlib
import resource

# A worker needs one descriptor for each connection. The second value is the highest that macOS
# accepts where its hard limit says "unlimited".
_LIMITS = (65_536, 10_240)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of this process, which its children inherit; never lower it.

    Shells and launchd on macOS set 256, far fewer than the connections of one worker.
    """
    for limit in _LIMITS:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        if soft == resource.RLIM_INFINITY or soft >= limit:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
