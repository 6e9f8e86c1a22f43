"""A folder that the processes of one node share, and that nobody else can read."""

import logging
import os
import re
import shutil
import uuid

from mlxnode.models.cache_folder import cache_folder

log = logging.getLogger("mlxnode.supervisor")

_NAME = re.compile(r"node-([0-9]+)-[0-9a-f]+")


class PrivateFolder:
    """Exists from ``open`` to ``close``; what a killed node has left is removed with it.

    It is in the cache folder: macOS removes from its temporary folders what nobody has opened
    for three days, also from a node that runs.
    """

    def __init__(self):
        self._parent = cache_folder() / "private"
        self.path = self._parent / f"node-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def open(self) -> None:
        """Raises OSError if the folder cannot be made."""
        self._parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._parent.chmod(0o700)
        self._remove_left()
        self.path.mkdir(mode=0o700)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _remove_left(self) -> None:
        """Remove the folders of nodes that do not run any more."""
        for folder in self._parent.iterdir():
            found = _NAME.fullmatch(folder.name)
            if found and not is_running(int(found[1])):
                log.info("removing %s, which a killed node has left", folder.name)
                shutil.rmtree(folder, ignore_errors=True)


def is_running(pid: int) -> bool:
    """True if there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True
