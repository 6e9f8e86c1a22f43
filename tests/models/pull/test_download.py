import errno
import hashlib

import pytest
from support.fake_hub import LARGE, FakeHub, Trouble

from mlxnode.errors import ModelError
from mlxnode.models import hub as hub_module
from mlxnode.models.pull import download as module
from mlxnode.models.pull.download import check_space, download
from mlxnode.models.pull.listing import ask_hub
from mlxnode.models.pull.wanted import Wanted

WEIGHTS = "model.safetensors"
DATA = hashlib.shake_256(b"weights").digest(1 << 20)


@pytest.fixture
def repository(hub: FakeHub, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / WEIGHTS).write_bytes(DATA)
    return hub.add("org/name", folder)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)


def pull() -> list[int]:
    counts: list[int] = []
    download(ask_hub(Wanted("org/name")), counts.append)
    return counts


def test_download_makes_what_the_library_finds(repository, hub):
    counts = pull()
    listing = ask_hub(Wanted("org/name"))
    assert listing.is_complete and listing.missing == 0
    assert (listing.snapshot / WEIGHTS).read_bytes() == DATA
    assert counts == sorted(counts) and counts[-1] == listing.size
    assert hub_module.find_in_cache("org/name") == listing.snapshot


def test_download_goes_on_in_another_process(repository, hub: FakeHub):
    file = next(f for f in ask_hub(Wanted("org/name")).files if f.sha256)
    file.partial.parent.mkdir(parents=True)
    file.partial.write_bytes(DATA[:300_000])
    counts = pull()
    assert hub.ranges(WEIGHTS) == ["bytes=300000-"]
    assert counts[0] >= 300_000 and file.blob.read_bytes() == DATA
    assert not file.partial.exists()


def test_download_makes_lost_connections_again(repository, hub: FakeHub):
    hub.troubles[WEIGHTS] = Trouble(after=200_000, cuts=3)
    pull()
    starts = [int(each.removeprefix("bytes=").rstrip("-")) for each in hub.ranges(WEIGHTS)]
    assert len(starts) == 4 and starts == sorted(set(starts))
    assert ask_hub(Wanted("org/name")).is_complete


def test_download_that_gets_no_further_fails_and_keeps_the_rest(repository, hub: FakeHub):
    hub.troubles[WEIGHTS] = Trouble(after=0, cuts=100)
    with pytest.raises(ModelError, match=r"no connection to .*: check the network"):
        pull()
    hub.troubles.clear()
    assert pull()[-1] == ask_hub(Wanted("org/name")).size


def test_download_of_a_server_without_ranges_begins_again(repository, hub: FakeHub):
    hub.has_ranges = False
    file = next(f for f in ask_hub(Wanted("org/name")).files if f.sha256)
    file.partial.parent.mkdir(parents=True)
    file.partial.write_bytes(b"x" * 1000)
    assert pull()[-1] == len(DATA) + len('{"model_type": "llama"}')
    assert file.blob.read_bytes() == DATA


def test_download_refuses_other_bytes_than_the_hub_lists(repository, hub: FakeHub):
    hub.corrupt.add(WEIGHTS)
    with pytest.raises(ModelError, match="is not what the hub lists"):
        pull()
    file = next(f for f in ask_hub(Wanted("org/name")).files if f.sha256)
    assert not file.blob.exists() and not file.partial.exists()


def test_download_of_a_new_commit_leaves_the_old_one_until_it_is_whole(repository, hub):
    pull()
    old = hub_module.find_in_cache("org/name")
    repository.commit = "b" * 40
    (repository.folder / WEIGHTS).write_bytes(DATA[::-1])
    hub.troubles[WEIGHTS] = Trouble(after=0, cuts=100)
    with pytest.raises(ModelError):
        pull()
    assert hub_module.find_in_cache("org/name") == old
    hub.troubles.clear()
    pull()
    assert hub_module.find_in_cache("org/name") == old.parent / ("b" * 40)


def test_download_takes_a_gguf_file_alone(hub: FakeHub, tmp_path):
    folder = tmp_path / "ggufs"
    folder.mkdir()
    for name in ("m-Q4_0.gguf", "m-Q8_0.gguf"):
        (folder / name).write_bytes(name.encode() * LARGE)
    hub.add("org/name", folder)
    listing = ask_hub(Wanted("org/name", tag="Q8_0"))
    download(listing, lambda _: None)
    assert listing.path.read_bytes() == b"m-Q8_0.gguf" * LARGE
    assert [file.name for file in listing.snapshot.iterdir()] == ["m-Q8_0.gguf"]


def test_download_without_space_says_so(repository, monkeypatch):
    listing = ask_hub(Wanted("org/name"))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5}))
    with pytest.raises(ModelError, match=r"0\.00 GB are to be fetched, but the disk of .* has"):
        check_space(listing)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_append", full)
    with pytest.raises(ModelError, match="no space is left on the disk; the same command"):
        pull()


def test_fetch_of_a_configured_model_goes_on_as_well(repository, hub: FakeHub):
    file = next(f for f in ask_hub(Wanted("org/name")).files if f.sha256)
    file.partial.parent.mkdir(parents=True)
    file.partial.write_bytes(DATA[:5000])
    folder = hub_module.fetch("org/name")
    assert (folder / WEIGHTS).read_bytes() == DATA
    assert hub.ranges(WEIGHTS) == ["bytes=5000-"]
