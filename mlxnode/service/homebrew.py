"""Whether Homebrew has installed this mlxnode, and whether its service is in use."""

from pathlib import Path

_PLIST = "homebrew.mxcl.mlxnode.plist"


def homebrew_prefix(environment: Path) -> Path | None:
    """Homebrew's folder if the Python ``environment`` is in its Cellar, or None."""
    for folder in environment.absolute().parents:
        if folder.name == "Cellar":
            return folder.parent
        if folder.name == "opt" and (folder.parent / "Cellar").is_dir():
            return folder.parent
    return None


def homebrew_service(home: Path) -> Path | None:
    """The file of Homebrew's service, if `brew services` has started it, or None."""
    folders = (home / "Library" / "LaunchAgents", Path("/Library/LaunchDaemons"))
    return next((folder / _PLIST for folder in folders if (folder / _PLIST).exists()), None)
