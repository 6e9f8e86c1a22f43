"""Models on the disk that are not served, each with its reason."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.disk import change, reasons_of, types_of

from mlxnode.models.discovery import listing
from mlxnode.models.discovery.listing import Lister


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("chat", {"model_type": "whisper"}, "'whisper' is none that mlx-lm knows"),
        ("chat", {"model_type": None}, "names no model_type"),
        ("chat", {"model_type": ["llama"]}, "names no model_type"),
        ("chat", {"model_file": "model.py"}, "code of its own"),
        ("rerank", {"id2label": {"0": "a", "1": "b"}}, "2 labels"),
        ("chat", {"architectures": ["LlamaForSequenceClassification"]}, "a classifier"),
        ("embedding", {"architectures": ["BertForTokenClassification"]}, "labels of tokens"),
        ("chat", {"num_hidden_layers": 10**9}, "num_hidden_layers must be"),
        (
            "chat",
            {"architectures": ["Gemma3TextModel"], "use_bidirectional_attention": True},
            "bidirectional attention",
        ),
    ],
)
def test_a_model_that_cannot_be_served_is_skipped_with_its_reason(disk, kind, changes, reason):
    folder = disk.put(kind, disk.search / "bad")
    change(folder / "config.json", **changes)
    disk.put("chat", disk.search / "good")
    loaded = disk.load()
    assert list(types_of(loaded)) == ["good"]
    assert reason in reasons_of(loaded)["bad"]


def _missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _fifo(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def _loop(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")


def _adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")


def _pipeline(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model_index.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no model*.safetensors"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "too deep"),
        (lambda folder: (folder / "config.json").write_text("[]"), "expected a JSON object"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff{}"), "no UTF-8"),
        (lambda folder: os.truncate(folder / "config.json", 1 << 40), "bytes; "),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
        (
            lambda folder: (folder / "x.safetensors.incomplete").touch(),
            "download is incomplete",
        ),
        (lambda folder: (folder / "model.safetensors.aria2").touch(), "download is incomplete"),
        (_missing_shard, "model-2.safetensors"),
        (_cut, "download it again"),
        (_fifo, "is no file"),
        (_loop, "cannot be read"),
        (_adapter, "it is an adapter"),
        (_pipeline, "a pipeline of diffusers"),
    ],
)
def test_a_spoilt_folder_is_skipped_with_its_reason(disk, spoil, reason):
    spoil(disk.put("chat", disk.search / "bad"))
    disk.put("chat", disk.search / "good")
    loaded = disk.load()
    assert list(types_of(loaded)) == ["good"]
    assert reason in reasons_of(loaded)["bad"]


def test_a_download_into_the_cache_of_the_hub_that_has_not_ended_is_skipped(disk):
    folder = disk.put_in_hub("chat", "org/Model")
    (folder / "blobs/0123.incomplete").touch()
    loaded = disk.load()
    assert not loaded.found and "incomplete" in loaded.skipped[0].reason
    (folder / "blobs/0123").touch()  # it has been fetched since
    assert list(disk.load().found) == ["org/Model"]
    (disk.hub / "models--org--begun").mkdir()
    (disk.hub / "datasets--org--rows").mkdir()
    assert [skipped.id for skipped in disk.load().skipped] == ["org/begun"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a readable GGUF file"),
        (b"GGUF" + b"\xff" * 60, "version"),
        (b"no gguf at all, but some text", "not a readable GGUF file"),
    ],
)
def test_a_damaged_gguf_file_is_skipped(disk, content, reason):
    (disk.search / "bad.gguf").write_bytes(content)
    assert reason in reasons_of(disk.load())["bad.gguf"]


def test_gguf_files_of_other_kinds_are_skipped_without_a_folder_of_their_own(disk, models):
    data = (models / "m.gguf").read_bytes()
    (disk.search / "other.gguf").write_bytes(data.replace(b"qwen3", b"dream", 1))
    (disk.search / "embeds.gguf").write_bytes(
        data.replace(b"qwen3.context_length", b"qwen3.pooling_type__", 1)
    )
    reasons = reasons_of(disk.load())
    assert "'dream' is not supported" in reasons["other.gguf"]
    assert "embedding models" in reasons["embeds.gguf"]
    assert not (disk.folder / "cache").exists()


def test_odd_names_and_loops_of_folders_end_nothing(disk):
    disk.put("chat", disk.search / "good")
    disk.put("chat", disk.search / "line\nbreak")
    disk.put("chat", disk.search / ("long" * 60))
    disk.put("chat", Path(os.fsdecode(bytes(disk.search) + b"/not-utf8-\xff")))
    (disk.search / "loop").symlink_to(disk.search)
    (disk.search / "self").symlink_to("self")
    loaded = disk.load()
    assert list(types_of(loaded)) == ["good"]
    assert sum("can be no id" in skipped.reason for skipped in loaded.skipped) >= 3


def test_unreadable_folders_are_skipped(disk, monkeypatch):
    disk.put("chat", disk.search / "good")
    locked = disk.put("chat", disk.search / "locked")
    real = os.scandir

    def scandir(path):
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    loaded = disk.load()
    assert list(types_of(loaded)) == ["good"]
    assert reasons_of(loaded)["locked"] == "it cannot be read: Permission denied"


def test_thousands_of_folders_are_bounded(disk, monkeypatch):
    monkeypatch.setattr(listing, "_MAX_ENTRIES", 50)
    monkeypatch.setattr(listing, "_MAX_TOTAL", 90)
    for place in ("a", "b", "c"):
        for number in range(40):
            (disk.search / f"{place}/{number}").mkdir(parents=True)
    for number in range(60):
        (disk.search / f"a-wide/{number}").mkdir(parents=True)
    reasons = reasons_of(disk.load())
    assert "more than 50 files and folders" in reasons["a-wide"]
    assert any("after 90 files and folders" in reason for reason in reasons.values())


def test_a_search_that_takes_long_ends(disk):
    disk.put("chat", disk.search / "good")
    disk.load()
    [skipped] = disk.found(lister=Lister(timeout=-1)).skipped
    assert "took too long" in skipped.reason


def test_fifty_models_are_found_within_a_second(disk):
    for number in range(50):
        folder = disk.search / f"org/model-{number}"
        folder.mkdir(parents=True)
        for file in (disk._models / "chat").iterdir():
            (folder / file.name).symlink_to(file)
    disk.load()
    started = time.process_time()
    assert len(disk.load().found) == 50
    assert time.process_time() - started < 1.0


def test_nothing_is_imported_that_takes_long_and_no_weights_are_read(disk, models):
    for kind in ("chat", "embedding"):
        disk.put(kind, disk.search / kind)
    disk.load()
    code = (
        "import sys, pathlib; from mlxnode.config.file import load_config;"
        "from mlxnode.models.discovery.complete import complete;"
        "found = complete(load_config(pathlib.Path(sys.argv[1]))).found;"
        "print(len(found), {'mlx', 'transformers', 'numpy', 'sanic'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(disk.config)],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_CACHE": str(disk.hub)},
    )
    assert result.stdout == "2 set()\n", result.stderr


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "HOME"])
def test_the_cache_of_the_hub_is_where_the_environment_says(disk, variable):
    place = {"HF_HUB_CACHE": disk.hub, "HF_HOME": disk.folder / "hf/hub"}.get(
        variable, disk.folder / "home/.cache/huggingface/hub"
    )
    disk.hub = place
    disk.put_in_hub("chat", "org/Model")
    disk.load()
    hidden = ("HF_HUB_CACHE", "HF_HOME", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ[variable] = str(place.parent if variable == "HF_HOME" else place)
    if variable == "HOME":
        environ["HOME"] = str(disk.folder / "home")
    code = (
        "import sys, pathlib; from mlxnode.config.file import load_config;"
        "from mlxnode.models.discovery.complete import complete;"
        "print(*complete(load_config(pathlib.Path(sys.argv[1]))).found)"
    )
    command = [sys.executable, "-c", code, str(disk.config)]
    result = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert result.stdout == "org/Model\n", result.stderr
