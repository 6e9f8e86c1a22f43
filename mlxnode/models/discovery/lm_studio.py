"""The folders in which LM Studio keeps models, as ``organisation/name``."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mlxnode.errors import ModelError
from mlxnode.models.plain_files import read_object

_POINTER = ".lmstudio-home-pointer"  # a file with the path of LM Studio's own folder
_MAX_POINTER = 4096  # bytes


def lm_studio_folders() -> list[Path]:
    """Those that exist, the newest place first."""
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home folder
        return []
    found = dict.fromkeys(_folders(home))
    return [folder for folder in found if folder.is_dir()]


def _folders(home: Path) -> Iterator[Path]:
    for own in (_pointed(home), home / ".lmstudio"):
        if own is not None:
            with contextlib.suppress(ModelError):  # none, or none that can be read
                named = read_object(own / "settings.json").get("downloadsFolder")
                if isinstance(named, str) and Path(named).is_absolute():
                    yield Path(named)
            yield own / "models"
    yield home / ".cache/lm-studio/models"


def _pointed(home: Path) -> Path | None:
    pointer = home / _POINTER
    with contextlib.suppress(OSError, ValueError):
        if pointer.is_file() and pointer.stat().st_size <= _MAX_POINTER:
            path = Path(pointer.read_text().strip())
            return path if path.is_absolute() else None
    return None
