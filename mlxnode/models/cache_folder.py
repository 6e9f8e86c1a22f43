"""Where fetched and derived model files are kept, and how they get there whole."""

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def cache_folder() -> Path:
    """``$MLXNODE_CACHE``, else the platform's cache folder for mlxnode."""
    if own := os.environ.get("MLXNODE_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Caches/mlxnode").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mlxnode"


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """The folder ``target``, made by ``build`` if it is not there yet.

    ``build`` fills an empty folder, which then becomes ``target`` in one step: nobody sees
    half of it, and of several processes one builds while the others wait.
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
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, or we die
        yield
