"""Where the history of what a user has typed is kept."""

from pathlib import Path

from mlxnode.process.usage_file import state_folder


def history_file() -> Path | None:
    """The file, in the folder of mlxnode's state; None if the user has no home folder."""
    try:
        return state_folder() / "chat_history"
    except RuntimeError:
        return None
