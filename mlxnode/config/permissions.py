"""Who may read the files that hold secrets."""

import os
import stat
from pathlib import Path

_OF_OTHERS = 0o066  # to read and to write, for the group and for all
_OF_OTHERS_BESIDE_READERS = 0o026  # the same, but for the group that may read
_WRITE_BY_ALL = 0o002


def exposure_of(file: Path) -> str | None:
    """How other users get at ``file``, in words; None: they do not.

    The rule of PostgreSQL for the key of its certificate: the file belongs to this user and
    to nobody else, or to root, who may let one group read it.
    """
    found = _regular(file)
    if found is None:
        return None
    own = os.geteuid()
    if own != 0 and found.st_uid not in (0, own):
        return f"belongs to another user (uid {found.st_uid})"
    others = _OF_OTHERS_BESIDE_READERS if found.st_uid == 0 else _OF_OTHERS
    mode = stat.S_IMODE(found.st_mode)
    if not mode & others:
        return None
    verb = "read" if mode & others & 0o044 else "changed"
    return f"can be {verb} by other users (mode {mode:04o})"


def is_writable_by_all(file: Path) -> bool:
    """True if every user of this machine can change ``file``."""
    found = _regular(file)
    return found is not None and bool(found.st_mode & _WRITE_BY_ALL)


def _regular(file: Path) -> os.stat_result | None:
    """The status of a file; None of a pipe or a device, which are nobody's for long."""
    try:
        found = file.stat()
    except OSError:  # whoever reads the file says so
        return None
    return found if stat.S_ISREG(found.st_mode) else None
