"""The cache folder of fetched and derived model files, filled one complete folder at a time."""

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mlxnode.errors import ConfigError


def cache_folder() -> Path:
    """``$MLXNODE_CACHE``, else the platform's cache folder for mlxnode.

    Raises:
        ConfigError: the user has no home folder, as in a container, and no folder is named.
    """
    try:
        if own := os.environ.get("MLXNODE_CACHE"):
            return Path(own).expanduser()
        if sys.platform == "darwin":
            return Path("~/Library/Caches/mlxnode").expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mlxnode"
    except RuntimeError as error:
        raise ConfigError(
            "this user has no home folder: set $MLXNODE_CACHE to a folder that it can write"
        ) from error


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """The folder ``target``, made by ``build`` if it does not exist yet.

    ``build`` fills an empty folder, which then becomes ``target`` in one step: no process sees
    an incomplete folder. One of several processes builds while the others wait.
    """
    if target.is_dir():
        return target
    with _locked(target):
        if target.is_dir():
            return target
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            build(scratch)
            scratch.rename(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    return target


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed or the process ends
        yield
