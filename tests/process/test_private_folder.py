"""The private folder of a node: its owner's alone, and gone with the node."""

import os
import subprocess
import sys

import pytest

from mlxnode.process.private_folder import PrivateFolder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path))


def test_private_folder_is_the_owners_alone():
    folder = PrivateFolder()
    folder.open()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.path.parent.stat().st_mode & 0o777 == 0o700
    (folder.path / "file").touch()
    folder.close()
    assert not folder.path.exists()


def test_private_folder_of_a_killed_node_is_removed_by_the_next():
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    ended = int(done.stdout)
    mine, other = PrivateFolder(), PrivateFolder()
    other.open()
    left = other.path.parent / f"node-{ended}-0123abcd"
    left.mkdir()
    foreign = other.path.parent / "something-else"
    foreign.mkdir()
    mine.open()
    assert not left.exists() and other.path.exists() and foreign.exists()
    assert str(os.getpid()) in mine.path.name


def test_private_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "private").touch()
    with pytest.raises(OSError, match="private"):
        PrivateFolder().open()
