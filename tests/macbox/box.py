"""What a test gives to a process that is to start in the box."""

import os
import resource
from pathlib import Path

from macbox.system import SOFT_LIMIT

HERE = Path(__file__).parent


def environment(mac: str) -> dict[str, str]:
    """The environment of a process on the machine ``mac``; its children inherit it."""
    paths = [str(HERE / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "MACBOX": mac,
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.pathsep.join([str(HERE / "bin"), os.environ["PATH"]]),
    }


def lower_soft_limit() -> None:
    """For ``preexec_fn``: the soft limit of a shell on macOS."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, hard))
