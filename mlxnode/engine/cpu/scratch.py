"""Where MLX's CPU backend writes what it compiles."""

import contextlib
import os
import tempfile


def name_scratch_folder() -> None:
    """Let $TMPDIR name a folder that takes files, if the machine has any.

    MLX asks the C++ library for the temporary folder, which is an error where $TMPDIR names
    none (std::filesystem::temp_directory_path); Python finds another one.
    """
    with contextlib.suppress(FileNotFoundError):
        os.environ["TMPDIR"] = tempfile.gettempdir()
