from pathlib import Path

import pytest

from mlxnode.config.tables import NodeConfig
from mlxnode.errors import ModelError
from mlxnode.models.removal import plan_removal


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The hub's cache; the cache of mlxnode is beside it."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    return folder


def add(cache: Path, repository: str, files: dict[str, bytes], commit: str = "a" * 40) -> Path:
    """A repository as the hub's library keeps it; contents of the same bytes are one blob."""
    storage = cache / f"models--{repository.replace('/', '--')}"
    snapshot = storage / "snapshots" / commit
    for folder in (storage / "blobs", storage / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (storage / "refs" / "main").write_text(commit)
    for name, data in files.items():
        blob = storage / "blobs" / f"{hash(data):x}".strip("-")
        blob.write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
    return snapshot


def config(**paths: str) -> NodeConfig:
    tables = {name: {"path": path, "type": "chat"} for name, path in paths.items()}
    return NodeConfig.model_validate({"api": {"models": tables}})


def reason(name: str, config: NodeConfig, folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        plan_removal(name, config, folder, {})
    return str(error.value)


def test_removal_of_a_hub_model_removes_all_revisions_and_nothing_else(cache, tmp_path):
    add(cache, "org/name", {"config.json": b"{}", "model.safetensors": b"x" * 1000})
    add(cache, "org/name", {"config.json": b"{}", "model.safetensors": b"y" * 500}, "b" * 40)
    other = add(cache, "org/other", {"config.json": b"{}"})
    plan = plan_removal("org/name", config(), tmp_path, {})
    assert plan.size == 1000 + 500 + 2  # config.json of both revisions is one file
    assert plan.paths == (cache / "models--org--name",)
    plan.run()
    assert [each.name for each in cache.glob("models--*")] == ["models--org--other"]
    assert (other / "config.json").read_bytes() == b"{}"


def test_removal_of_a_download_that_has_ended_early(cache, tmp_path):
    add(cache, "org/name", {"config.json": b"{}"})
    (cache / "models--org--name/blobs/abc.incomplete").write_bytes(b"z" * 300)
    plan = plan_removal("org/name", config(), tmp_path, {})
    assert plan.size == 302
    plan.run()
    assert not (cache / "models--org--name").exists()


def test_removal_of_a_download_without_a_revision(cache, tmp_path):
    blobs = cache / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc.incomplete").write_bytes(b"z" * 300)
    plan = plan_removal("org/name", config(), tmp_path, {})
    assert plan.size == 300
    plan.run()
    assert not blobs.parent.exists()


def test_removal_by_id_alias_and_folder_of_the_cache(cache, tmp_path):
    snapshot = add(cache, "org/name", {"config.json": b"{}"})
    models = config(mine=str(snapshot), same="org/name", other="org/other")
    for name in ("mine", "same", "short", "org/name"):
        plan = plan_removal(name, models, tmp_path, {"short": "mine"})
        assert (plan.what, plan.ids) == ("org/name", ("mine", "same"))


def test_removal_also_takes_the_folder_that_is_derived_from_a_gguf_file(cache, tmp_path):
    snapshot = add(cache, "org/name", {"m.Q4.gguf": b"GGUF" * 10})
    derived = tmp_path / "cache" / "gguf"
    for name in ("m.Q4-0123456789abcdef", "m.Q4_1-0123456789abcdef", "m.Q4-other"):
        (derived / name).mkdir(parents=True)
        (derived / name / "tokenizer.json").write_bytes(b"t" * 50)
    plan = plan_removal("m", config(m=str(snapshot / "m.Q4.gguf")), tmp_path, {})
    assert plan.size == 40 + 50
    plan.run()
    assert sorted(each.name for each in derived.iterdir()) == [
        "m.Q4-other",
        "m.Q4_1-0123456789abcdef",
    ]


def test_removal_of_one_of_several_gguf_files(cache, tmp_path):
    files = {"m-Q4.gguf": b"4" * 40, "m-Q8.gguf": b"8" * 80}
    snapshot = add(cache, "org/name", files)
    models = config(four=str(snapshot / "m-Q4.gguf"), eight=str(snapshot / "m-Q8.gguf"))
    plan = plan_removal("four", models, tmp_path, {})
    assert (plan.what, plan.size, plan.ids) == ("org/name/m-Q4.gguf", 40, ("four",))
    assert plan_removal("org/name/m-Q4.gguf", models, tmp_path, {}) == plan
    assert plan_removal("org/name", models, tmp_path, {}).ids == ("four", "eight")
    plan.run()
    assert [each.name for each in snapshot.iterdir()] == ["m-Q8.gguf"]
    assert (snapshot / "m-Q8.gguf").read_bytes() == b"8" * 80
    assert plan_removal("eight", models, tmp_path, {}).what == "org/name"  # the last one
    assert "has no m-Q4.gguf on the disk" in reason("org/name/m-Q4.gguf", models, tmp_path)


def test_removal_of_a_demo_model(cache, tmp_path):
    folder = tmp_path / "cache" / "demo" / "all-minilm-l6-v2"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w" * 77)
    models = config(all="demo/all-minilm-l6-v2")
    for name in ("all", "demo/all-minilm-l6-v2", "all-minilm-l6-v2"):
        plan = plan_removal(name, models, tmp_path, {})
        assert (plan.what, plan.size, plan.ids) == ("demo/all-minilm-l6-v2", 77, ("all",))
    plan.run()
    assert not folder.exists()
    assert "demo/all-minilm-l6-v2 is not on the disk" in reason("all", models, tmp_path)


def test_removal_refuses_what_is_the_users_own(cache, tmp_path):
    own = tmp_path / "my-model"
    own.mkdir()
    (own / "config.json").write_text("{}")
    (own / "m.gguf").write_bytes(b"GGUF")
    for path in ("my-model", str(own), "my-model/m.gguf"):
        text = reason("m", config(m=path), tmp_path)
        assert "m is your own" in text and str(own) in text
    assert "is your own" in reason("my-model", config(), tmp_path)
    # The hub's cache itself, and what is in it beside models.
    (cache / "datasets--org--name").mkdir()
    for path in (cache, cache / "datasets--org--name"):
        assert "is your own" in reason(str(path), config(), tmp_path)


def test_removal_of_an_unknown_model_says_what_there_is(cache, tmp_path):
    assert "no model is called 'x'; there are m, and hub ids" in reason(
        "x", config(m="org/name"), tmp_path
    )
    assert "org/name is not on the disk" in reason("org/name", config(), tmp_path)
