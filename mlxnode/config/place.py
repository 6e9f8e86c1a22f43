"""Where the configuration is."""

import contextlib
from collections.abc import Mapping
from pathlib import Path


def find_config(environ: Mapping[str, str]) -> Path | None:
    """The file to load if the command line names none."""
    if named := environ.get("MLXNODE_CONFIG"):
        return Path(named).expanduser()
    candidates = [Path("config.toml")]
    with contextlib.suppress(RuntimeError):  # a user without a home folder
        candidates.append(Path("~/.config/mlxnode/config.toml").expanduser())
    return next((path.absolute() for path in candidates if path.is_file()), None)
