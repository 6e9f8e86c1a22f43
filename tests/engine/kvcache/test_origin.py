"""The folders of the prefix cache on disk: which stay at a start; a process that is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.engine_process import serve_tiny

from mlxnode.engine.kvcache import origin
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.origin import ORIGIN, fingerprint, origin_of, remove_stale


@pytest.fixture
def model(tiny_folder, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())
    return serve_tiny(folder)


def folder_of(model, root: Path) -> Path:
    folder = root / fingerprint(model, None)
    folder.mkdir(parents=True)
    (folder / ORIGIN).write_text(json.dumps(origin_of(model)))
    (folder / "one.safetensors").write_bytes(b"")
    return folder


def test_remove_stale_keeps_the_folder_of_a_model_that_exists(model, tmp_path):
    folder = folder_of(model, tmp_path / "root")
    remove_stale(tmp_path / "root")
    assert folder.exists()
    remove_stale(tmp_path / "missing")


@pytest.mark.parametrize(
    "change", ["version", "weights", "config", "gone", "origin", "no origin"]
)
def test_remove_stale_removes_versions_and_models_that_are_gone(
    model, tmp_path, monkeypatch, change
):
    folder = folder_of(model, tmp_path / "root")
    match change:
        case "version":
            monkeypatch.setattr(origin, "__version__", "another")
        case "weights":
            os.utime(model.folder / "model.safetensors", (1, 1))
        case "config":
            (model.folder / "config.json").write_text("{}")
        case "gone":
            (model.folder / "model.safetensors").unlink()
        case "origin":
            (folder / ORIGIN).write_text('{"files"')
        case _:
            (folder / ORIGIN).unlink()
    remove_stale(tmp_path / "root")
    assert not folder.exists()


def test_remove_stale_touches_nothing_else(model, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "notes").mkdir()
    (root / "file").write_text("")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / ("a" * 32)).symlink_to(elsewhere)
    remove_stale(root)
    assert elsewhere.exists() and (root / "notes").exists() and (root / "file").exists()


WRITER = """
import itertools, sys
from pathlib import Path
import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, KVCache
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.entries import FinishedEntry
from mlxnode.engine.kvcache.snapshot import Snapshot, only_plain

store = PrefixStore(Path(sys.argv[1]), "model", 200_000, {"files": []})
for i in itertools.count():
    plain, states = KVCache(), ArraysCache(1)
    plain.update_and_fetch(*[mx.full((1, 1, 40, 64), i)] * 2)
    states[0] = mx.full((1, 64), i)
    cache = [plain, states]
    entry = FinishedEntry([i] * 40, only_plain(cache))
    entry.snapshots = [Snapshot(cache, 40, is_border=True)]
    store.save(entry)
    print(i, flush=True)
"""


@pytest.mark.long
@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_cache_that_opens(tmp_path):
    root = tmp_path / "prefixes"
    for number in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE, text=True
        )
        try:
            for _ in range(1 + 2 * number):  # killed while the next file is written
                assert writer.stdout.readline()
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        files = list(root.rglob("*.safetensors"))
        largest = max(file.stat().st_size for file in files)
        assert sum(file.stat().st_size for file in files) <= 200_000 + largest
        assert json.loads((root / "model" / ORIGIN).read_text()) == {"files": []}
        store = PrefixStore(root, "model", 200_000)
        assert store.entries and not list(root.rglob("unfinished-*"))
        for entry in list(store.entries):
            [plain, _], [snapshot] = store.load(entry)
            value = int(entry.tokens[0])
            assert (plain.keys_and_values()[0] == value).all().item()
            assert (snapshot.layers[0][0] == value).all().item()
