"""The prefix cache on disk: what comes back after a restart, and what must not."""

import dataclasses
import json
import logging
import os
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import CacheList, KVCache, QuantizedKVCache, RotatingKVCache
from support.engine_process import TIMEOUT, generate, serve_tiny

from mlxnode.engine.kvcache import disk, origin
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.entries import FinishedEntry
from mlxnode.engine.kvcache.origin import fingerprint
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.engine.kvcache.prompt_cache import arrays_of
from mlxnode.engine.kvcache.snapshot import Snapshot, only_plain

LIMIT = 10**6
TEXT = list(range(100, 140))


def row_of(tokens: list[int], bits: int | None = None) -> list:
    """One layer whose keys tell the tokens."""
    data = mx.broadcast_to(
        mx.array(tokens, mx.float32)[None, None, :, None], (1, 1, len(tokens), 64)
    )
    cache = KVCache() if bits is None else QuantizedKVCache(bits=bits)
    cache.update_and_fetch(data, data)
    return [cache]


def make_prefixes(store: PrefixStore) -> PrefixCache:
    return PrefixCache(lambda: LIMIT, MemoryBudget(LIMIT), store)


def save(store: PrefixStore, *texts: list[int], bits: int | None = None) -> None:
    """Keep the texts in a prefix cache, and write them."""
    prefixes = make_prefixes(store)
    for text in texts:
        prefixes.add(text, row_of(text, bits))
    while prefixes.has_unsaved:
        prefixes.save_next()


def known(store: PrefixStore, prompt: list[int]) -> int:
    """How many tokens of a prompt a new process would know."""
    found = make_prefixes(store).find(prompt)
    return 0 if found is None else found.length


@pytest.fixture
def reopen(tmp_path):
    """The store as a new process opens it."""

    def reopen(name: str = "model", limit: int = LIMIT) -> PrefixStore:
        return PrefixStore(tmp_path / "prefixes", name, limit)

    return reopen


@pytest.mark.parametrize("bits", [None, 4, 8])
def test_a_text_comes_back_as_it_was(reopen, bits):
    save(reopen(), TEXT, bits=bits)
    found = make_prefixes(reopen()).find([*TEXT[:30], 1, 2])
    assert found.length == 30
    [mine], [saved] = found.cache, row_of(TEXT, bits)
    assert type(mine) is type(saved) and mine.offset == 30
    for a, b in zip(arrays_of(mine), arrays_of(saved), strict=True):
        assert np.array_equal(np.array(a), np.array(b[:, :, :30]))


def test_what_came_back_is_in_memory_and_not_written_again(reopen):
    save(reopen(), TEXT)
    prefixes = make_prefixes(reopen())
    assert prefixes.nbytes == 0
    prefixes.find([*TEXT, 1])
    assert prefixes.nbytes > 0 and not prefixes.has_unsaved


def window_of(tokens: list[int], size: int) -> RotatingKVCache:
    """A window whose keys tell the tokens."""
    [plain] = row_of(tokens)
    layer = RotatingKVCache(max_size=size)
    layer.update_and_fetch(plain.keys[:, :, : len(tokens)], plain.values[:, :, : len(tokens)])
    return layer


def with_snapshots(tokens: list[int], *lengths: int) -> FinishedEntry:
    """A combined layer of a plain part and a window of 16, with snapshots at ``lengths``."""

    def cache(length: int) -> list:
        return [CacheList(window_of(tokens[:length], 16), *row_of(tokens[:length]))]

    entry = FinishedEntry(tokens, only_plain(cache(len(tokens))))
    entry.snapshots = [Snapshot(cache(n), n, is_border=True) for n in lengths]
    return entry


def test_snapshots_come_back_from_disk(reopen):
    entry = with_snapshots(TEXT, 8, 20, 40)
    reopen().save(entry)
    [stored] = reopen().entries
    assert [(span.length, span.shortest) for span in stored.spans] == [
        (8, 0),
        (20, 20),
        (40, 40),
    ]
    assert stored.snapshot_bytes == sum(snapshot.nbytes for snapshot in entry.snapshots)
    for prompt, length in (([*TEXT[:30], 1], 20), ([*TEXT, 1], 40), ([*TEXT[:5], 1, 2], 0)):
        prefixes = make_prefixes(reopen())
        found = prefixes.find(prompt)
        if not length:
            assert found is None  # a file is not read for five tokens
            continue
        assert (
            found.length == length and prefixes.nbytes == entry.nbytes + stored.snapshot_bytes
        )
        [[window, plain]] = [layer.caches for layer in found.cache]
        assert np.array(plain.keys_and_values()[0])[0, 0, :, 0].tolist() == TEXT[:length]
        held = np.array(window.keys_and_values()[0])[0, 0, :, 0].tolist()
        assert held == TEXT[length - 16 : length] and window.offset == length


def test_a_longer_sequence_with_its_snapshots_takes_the_place_of_a_file(reopen, tmp_path):
    store = reopen()
    for entry in (with_snapshots(TEXT[:20], 20), with_snapshots(TEXT, 20, 40)):
        store.save(entry)
    assert len(store.entries) == len(list(tmp_path.rglob("*.safetensors"))) == 1
    store.save(with_snapshots(TEXT[:20], 20))  # the file serves that, too
    store.save(with_snapshots(TEXT[:30], 30))  # and not that
    assert sorted(len(stored.tokens) for stored in store.entries) == [30, 40]


def test_what_is_in_memory_is_not_read_from_disk(reopen, monkeypatch):
    save(reopen(), TEXT)
    prefixes = make_prefixes(reopen())
    prefixes.add(TEXT[:35], row_of(TEXT[:35]))
    monkeypatch.setattr(disk, "load_prompt_cache", None)  # would raise
    assert prefixes.find([*TEXT, 1]).length == 35  # five more are not worth a file


def test_a_text_takes_the_place_of_its_beginning(reopen, tmp_path):
    save(reopen(), TEXT[:20])
    save(reopen(), TEXT)
    save(reopen(), TEXT[:30])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert known(reopen(), [*TEXT, 1]) == len(TEXT)


def test_other_models_and_versions_do_not_find_it(reopen):
    save(reopen("one"), TEXT)
    assert known(reopen("other"), [*TEXT, 1]) == 0
    assert known(reopen("one"), [*TEXT, 1]) == len(TEXT)


def test_the_fingerprint_tells_what_the_caches_depend_on(tiny_folder, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())
    model = serve_tiny(folder)
    prints = [fingerprint(model, None), fingerprint(model, 8)]
    assert prints[0] == fingerprint(dataclasses.replace(model, id="alias"), None)
    os.utime(folder / "model.safetensors", (1, 1))
    prints.append(fingerprint(model, None))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": 1.0}))
    prints.append(fingerprint(model, None))
    monkeypatch.setattr(origin, "__version__", "another")
    prints.append(fingerprint(model, None))
    assert len(set(prints)) == len(prints)


def test_the_folder_stays_within_its_limit(reopen, tmp_path):
    texts = [[i] * 40 for i in range(5)]
    save(reopen("old"), texts[0])
    [file] = tmp_path.rglob("*.safetensors")
    size = file.stat().st_size
    os.utime(file, (1, 1))  # another model's, long unused
    limit = 3 * size + size // 2
    for text in texts[1:4]:
        save(reopen(limit=limit), text)
    assert known(reopen("old"), [*texts[0], 9]) == 0
    for age, text in enumerate((texts[2], texts[3], texts[1])):
        store = reopen(limit=limit)
        [name] = [stored.file for stored in store.entries if stored.tokens[0] == text[0]]
        os.utime(name, (100 + age, 100 + age))
    assert known(reopen(limit=limit), [*texts[2], 9]) == 40  # used, so it stays
    save(reopen(limit=limit), texts[4])
    found = [known(reopen(limit=limit), [*text, 9]) for text in texts]
    assert found == [0, 40, 40, 0, 40]
    assert sum(f.stat().st_size for f in tmp_path.rglob("*.safetensors")) <= limit


def test_a_text_beyond_the_limit_is_not_written(reopen, tmp_path):
    save(reopen(limit=100), TEXT)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_damaged_and_unfinished_files_are_dropped(reopen, tmp_path, caplog):
    other = [7] * 40
    save(reopen(), TEXT, other)
    half, whole = tmp_path.rglob("*.safetensors")
    half.write_bytes(half.read_bytes()[:-50])
    unfinished = whole.with_name("unfinished-" + half.name)
    unfinished.write_bytes(b"")
    with caplog.at_level(logging.WARNING, "mlxnode.engine"):
        assert len(reopen().entries) == 1
    assert half.name in caplog.text
    assert list(tmp_path.rglob("*.safetensors")) == [whole]


def test_what_is_no_file_of_the_cache_is_no_error(reopen, tmp_path):
    save(reopen(), TEXT)
    folder = tmp_path / "prefixes" / "model"
    (folder / "folder.safetensors").mkdir()
    mx.save_safetensors(str(folder / "foreign.safetensors"), {"weight": mx.zeros(3)})
    mx.save_safetensors(
        str(folder / "almost.safetensors"),
        {"0.0": mx.zeros(3)},
        {"0.tokens": "[1, 2]", "0.is_trimmable": "true", "0.num_shared": "0", "0.layout": "7"},
    )
    (folder / "text.safetensors").write_text("no tensors")
    (tmp_path / "prefixes" / "file").write_text("beside the folders")
    store = reopen()
    assert len(store.entries) == 1
    assert make_prefixes(store).find([*TEXT, 1]).length == len(TEXT)


@pytest.mark.parametrize("layout", [{"structure": [True, True]}, {"structure": []}, {}])
def test_a_file_whose_layout_is_wrong_is_lost_and_no_error(reopen, monkeypatch, layout):
    monkeypatch.setattr(
        disk, "pack", lambda entry: (list(entry.cache), {"snapshots": []} | layout)
    )
    save(reopen(), TEXT)
    store = reopen()
    assert len(store.entries) == 1 and make_prefixes(store).find([*TEXT, 1]) is None
    assert store.entries == []


def test_a_file_that_goes_while_the_node_runs_is_forgotten(reopen, tmp_path):
    save(reopen(), [*TEXT, 1], [*TEXT[:30], 2])
    prefixes = make_prefixes(reopen())
    [longer] = [t.file for t in prefixes._store.entries if len(t.tokens) == len(TEXT) + 1]
    longer.unlink()
    assert prefixes.find([*TEXT, 1, 5]).length == 30  # from the other one
    assert len(prefixes._store.entries) == 1


def test_a_disk_that_cannot_be_written_to_is_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    store = PrefixStore(tmp_path / "file", "model", LIMIT)
    with caplog.at_level(logging.WARNING, "mlxnode.engine"):
        save(store, TEXT)
    assert "cannot be written" in caplog.text
    assert store.entries == []


def test_nobody_else_may_read_the_texts(reopen, tmp_path):
    save(reopen(), TEXT)
    for folder in (tmp_path / "prefixes", tmp_path / "prefixes" / "model"):
        assert folder.stat().st_mode & 0o077 == 0


# --- in the engine process ----------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files of the engines that this test starts."""
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path))
    return lambda: list(Path(tmp_path).rglob("[!u]*.safetensors"))


def ask(engine) -> tuple[list[int], int]:
    """The answer to a prompt of 60 tokens, and how many of them were known."""
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1, prompt=60))
    updates = worker.updates(1)[1]
    return [token.id for update in updates for token in update.tokens], updates[0].num_cached


def test_a_prompt_is_known_after_a_restart(start_engine, tiny_folder, files):
    answers = []
    for _ in range(2):
        engine = start_engine(serve_tiny(tiny_folder), prefix_cache_disk_gb=1.0)
        answers.append(ask(engine))
        engine.stop()
        assert engine.process.exitcode == 0 and len(files()) == 1
    assert answers == [(answers[0][0], 0), (answers[0][0], 59)]


@pytest.mark.long
def test_texts_are_written_while_there_is_nothing_to_do(start_engine, tiny_folder, files):
    engine = start_engine(serve_tiny(tiny_folder), prefix_cache_disk_gb=1.0)
    text, _ = ask(engine)
    deadline = time.monotonic() + TIMEOUT
    while not files() and time.monotonic() < deadline:
        time.sleep(0.05)  # no event tells
    engine.process.kill()
    engine.process.join()
    assert ask(start_engine(serve_tiny(tiny_folder), prefix_cache_disk_gb=1.0)) == (text, 59)


def test_nothing_is_written_unless_asked_for(start_engine, tiny_folder, files):
    engine = start_engine(serve_tiny(tiny_folder))
    ask(engine)
    engine.stop()
    assert not files()
