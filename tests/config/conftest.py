"""Configuration files of the tests of this folder."""

from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        file = tmp_path / "config.toml"
        file.write_text(text)
        file.chmod(0o600)
        return file

    return write
