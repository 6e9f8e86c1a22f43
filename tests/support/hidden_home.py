"""A home folder for tests: the user's own, but for models and settings of mlxnode."""

from pathlib import Path

# What LM Studio, the hub and mlxnode itself keep below a home folder.
_HIDDEN = {
    ".lmstudio",
    ".lmstudio-home-pointer",
    ".cache/huggingface",
    ".cache/lm-studio",
    ".config/mlxnode",
}
_OPENED = {".cache", ".config"}  # folders of which only parts are hidden
# Settings of the user that would decide what a test sees.
VARIABLES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_TOKEN",
    "MLXNODE_ADMIN_KEY",
    "MLXNODE_API_KEY",
    "MLXNODE_CONFIG",
)


def hide_models(home: Path, target: Path) -> None:
    """Fill ``target`` with links to all in ``home`` that may be seen.

    Package caches, toolchains and the demo models stay where they are.
    """
    _link(home, target, "")


def _link(source: Path, target: Path, prefix: str) -> None:
    target.mkdir(exist_ok=True)
    try:
        entries = list(source.iterdir())
    except OSError:  # no home folder, or one that this user cannot read
        return
    for entry in entries:
        name = prefix + entry.name
        if name in _OPENED and entry.is_dir():
            _link(entry, target / entry.name, f"{name}/")
        elif name not in _HIDDEN:
            (target / entry.name).symlink_to(entry)
