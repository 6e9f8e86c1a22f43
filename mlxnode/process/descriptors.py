"""How many files and sockets a process may have open."""

import contextlib
import resource

# A worker has a descriptor for each connection. The second is the most that macOS allows a
# process to set where its hard limit says "unlimited".
_WANTED = (65_536, 10_240)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of this process, which its children inherit; never lower it.

    Shells and launchd on macOS begin with 256, far fewer than the connections of one worker.
    """
    for wanted in _WANTED:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
