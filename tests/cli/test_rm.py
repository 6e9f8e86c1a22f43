"""``mlxnode rm`` as a process, and beside a node that has loaded the model."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import tiny
from support.node_process import NodeProcess

pytestmark = pytest.mark.slow
COMMIT = "a" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The hub's cache with the repository org/name, whose files are links to blobs."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    # Short: the path of a node's socket has a limit.
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = tmp_path / "hub" / "models--org--name"
    folder = storage / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    for name in ("blobs", "refs"):
        (storage / name).mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    model = tmp_path / "model"
    model.mkdir()
    tiny.make_chat_model(model)
    for number, file in enumerate(sorted(model.iterdir())):
        blob = storage / "blobs" / f"{number:040x}"
        shutil.move(file, blob)
        (folder / file.name).symlink_to(f"../../blobs/{blob.name}")
    return tmp_path / "hub"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mlxnode", "rm", *arguments],
        env=os.environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_rm_shows_then_removes_what_was_fetched(cache, tmp_path):
    size = sum(file.stat().st_size for file in cache.rglob("blobs/*"))
    shown = run(tmp_path, "org/name", "--dry-run", "--json")
    assert json.loads(shown.stdout) == {
        "model": "org/name",
        "paths": [str(cache / "models--org--name")],
        "size_bytes": size,
        "is_removed": False,
    }
    by_alias = run(tmp_path, "name", "--dry-run", "--json")  # that discovery gives it
    assert by_alias.stdout == shown.stdout
    asked = run(tmp_path, "org/name")
    assert asked.returncode == 1 and "--yes removes without a question" in asked.stderr
    assert (cache / "models--org--name").exists()
    removed = run(tmp_path, "org/name", "--yes")
    assert (removed.returncode, removed.stdout) == (0, "removed: org/name\n")
    assert not (cache / "models--org--name").exists()
    again = run(tmp_path, "org/name", "--yes")
    assert again.returncode == 1 and "org/name is not on the disk" in again.stderr


def test_rm_of_a_folder_of_the_user_removes_nothing(cache, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    tiny.make_chat_model(own)
    config = tmp_path / "config.toml"
    config.write_text(
        '[api]\nrequire_auth = false\n[api.models.mine]\npath = "own"\ntype = "chat"\n'
    )
    for arguments in (("mine",), ("mine", "--yes", "--force"), (str(own), "--yes")):
        refused = run(tmp_path, *arguments, "--config", str(config))
        assert refused.returncode == 1 and "is your own" in refused.stderr
    assert (own / "model.safetensors").exists()


@pytest.mark.long
def test_rm_of_a_model_that_a_node_has_loaded_needs_force(cache, tmp_path):
    text = (
        '[api]\naddress = "127.0.0.1:0"\nrequire_auth = false\n'
        '[api.models.mine]\npath = "org/name"\ntype = "chat"\n[server]\nworkers = 1\n'
    )
    with NodeProcess(tmp_path, text) as node:
        node.wait_ready()
        config = ("--config", str(tmp_path / "config.toml"))
        wait_for_figures(node)
        for name in ("mine", "org/name"):
            refused = run(tmp_path, name, "--yes", *config)
            assert refused.returncode == 1, refused.stderr
            assert "mine is loaded in the node on 127.0.0.1:" in refused.stderr
        assert (cache / "models--org--name").exists()
        taken = run(tmp_path, "mine", "--yes", "--force", *config)
        assert taken.returncode == 0
        assert "still names it (mine)" in taken.stderr
    assert not (cache / "models--org--name").exists()


def wait_for_figures(node: NodeProcess) -> None:
    """The engine reports its models once a second."""
    address = node.url.removeprefix("http://")
    command = [sys.executable, "-m", "mlxnode", "status", "--json", "--address", address]
    for _ in range(50):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode == 0 and json.loads(done.stdout)["engine"]:
            return
    raise AssertionError("the engine reports nothing")
