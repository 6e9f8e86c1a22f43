"""Models on the disk: which are found, as what, and under which names."""

import json
import os

import pytest
from support.disk import change, reasons_of, types_of

from mlxnode.models.resolve import resolve_each


def test_a_model_of_each_type_is_found_and_can_be_described(disk):
    for kind in ("chat", "embedding", "rerank", "completion"):
        disk.put(kind, disk.search / f"My-{kind}")
    disk.put("m.gguf", disk.search / "My-File.Q8_0.gguf")
    loaded = disk.load()
    assert types_of(loaded) == {
        "My-File.Q8_0": "chat",
        "My-chat": "chat",
        "My-completion": "completion",
        "My-embedding": "embedding",
        "My-rerank": "rerank",
    }
    assert loaded.aliases["my-file.q8_0"] == "My-File.Q8_0"
    assert loaded.skipped == () and loaded.warnings == ()
    resolved = resolve_each(loaded.config, print, folder=loaded.folder)
    assert resolved.failed == {}
    for model in resolved.models:
        assert not model.preload and model.idle_unload == 3600
        assert model.weights.is_absolute()


def test_search_looks_two_levels_deep_and_no_deeper(disk):
    disk.put("chat", disk.search / "one")
    disk.put("chat", disk.search / "org/two")
    disk.put("chat", disk.search / "a/b/three")
    disk.put("chat", disk.search / ".hidden")
    disk.put("m.gguf", disk.search / "org/files/Q4.gguf")
    assert list(types_of(disk.load())) == ["one", "files", "two"]


def test_search_can_name_the_folder_of_a_model_and_a_cache_of_the_hub(disk):
    disk.put("chat", disk.folder / "lone")
    disk.put_in_hub("chat", "org/cached")
    loaded = disk.load("huggingface = false\n")
    assert types_of(loaded) == {
        "smollm2-135m-instruct": "chat",
        "all-minilm-l6-v2": "embedding",
    }
    disk.config.write_text(
        "[api]\nrequire_auth = false\n[server.discovery]\nsearch = ['lone', 'hub']\n"
        "huggingface = false\n"
    )
    assert list(disk.found().models) == ["lone", "org/cached"]


def test_files_of_a_folder_are_a_model_each_but_projectors_and_parts(disk):
    folder = disk.lm_studio / "org/Qwen-GGUF"
    disk.put("m.gguf", folder / "Qwen-Q4_K_M.gguf")
    disk.put("m.gguf", folder / "mmproj-Qwen-f16.gguf")
    loaded = disk.load()
    assert list(types_of(loaded)) == ["org/Qwen-GGUF"]
    assert loaded.aliases == {
        "qwen-gguf": "org/Qwen-GGUF",
        "qwen-q4_k_m": "org/Qwen-GGUF",
    }
    disk.put("m.gguf", folder / "Qwen-Q8_0.gguf")
    for part in (1, 2):
        disk.put("m.gguf", folder / f"Big-0000{part}-of-00002.gguf")
    loaded = disk.load()
    assert list(types_of(loaded)) == ["org/Qwen-GGUF/Qwen-Q4_K_M", "org/Qwen-GGUF/Qwen-Q8_0"]
    assert loaded.aliases["qwen-q4_k_m"] == "org/Qwen-GGUF/Qwen-Q4_K_M"
    [(name, reason)] = reasons_of(loaded).items()
    assert name == "Big-00001-of-00002.gguf" and "a part of a model in 2 files" in reason


def test_the_cache_of_the_hub_has_the_revision_of_main(disk):
    disk.put_in_hub("embedding", "org/Model", "old")
    folder = disk.put_in_hub("chat", "org/Model", "new")
    disk.put_in_hub("chat", "gpt2")
    loaded = disk.load()
    assert types_of(loaded) == {"gpt2": "chat", "org/Model": "chat"}
    assert loaded.config.api.models["org/Model"].path == str(folder / "snapshots/new")
    assert loaded.aliases == {"model": "org/Model"}
    (folder / "refs/main").write_text(
        "../../../secret"
    )  # no revision: the newest folder counts
    os.utime(folder / "snapshots/old", (2e9, 2e9))
    assert types_of(disk.load())["org/Model"] == "embedding"


def test_lm_studio_says_where_its_models_are(disk):
    home = disk.folder / "home"
    own = disk.folder / "lm"
    disk.put("chat", disk.lm_studio / "org/usual")
    disk.put("chat", home / ".cache/lm-studio/models/org/older")
    disk.put("chat", own / "models/org/pointed")
    disk.put("chat", disk.folder / "elsewhere/org/moved")
    (home / ".lmstudio-home-pointer").write_text(f"{own}\n")
    settings = {"downloadsFolder": str(disk.folder / "elsewhere")}
    (own / "settings.json").write_text(json.dumps(settings))
    assert list(types_of(disk.load())) == ["org/moved", "org/pointed", "org/usual", "org/older"]
    (home / ".lmstudio-home-pointer").write_text("relative\n")
    (own / "settings.json").write_text("{")
    assert list(types_of(disk.load())) == ["org/usual", "org/older"]
    assert not disk.load("lm_studio = false").found


def test_the_first_place_wins_and_the_same_files_are_served_once(disk):
    disk.put("chat", disk.search / "org/Same")
    disk.put_in_hub("embedding", "Same")
    disk.put("rerank", disk.lm_studio / "org/Other")
    (disk.search / "link").symlink_to(disk.lm_studio / "org/Other")
    mine = disk.put("completion", disk.folder / "mine")
    (disk.search / "again").symlink_to(mine)
    table = "[api.models.mine]\npath = 'mine'\ntype = 'completion'\n"
    loaded = disk.load("enabled = true", table)
    assert types_of(loaded) == {"mine": "completion", "link": "rerank", "Same": "chat"}
    reasons = reasons_of(loaded)
    assert "the id of another model" in reasons["abc"]
    assert reasons["Other"] == "it is served as link"
    assert reasons["again"] == "it is served as mine"


def test_a_configured_repository_is_not_found_again(disk):
    disk.put_in_hub("chat", "org/Model")
    table = "[api.models.mine]\npath = 'org/Model'\ntype = 'chat'\n"
    assert list(types_of(disk.load("enabled = true", table))) == ["mine"]


@pytest.mark.parametrize(
    ("kind", "name", "changes", "expected"),
    [
        ("chat", "Qwen3-Embedding-0.6B", {"model_type": "qwen3"}, "embedding"),
        ("chat", "some-reranker", {"model_type": "qwen3"}, "rerank"),
        ("chat", "some-reranker", {}, "chat"),
        ("chat", "Embedded-Coder", {}, "chat"),
        ("chat", "x", {"architectures": ["Qwen3Model"]}, "embedding"),
        ("chat", "x", {"architectures": ["GPT2LMHeadModel"]}, "chat"),
        ("chat", "x", {"architectures": []}, "chat"),
        ("chat", "x", {"architectures": "LlamaForCausalLM"}, "chat"),
        ("chat", "x", {"vision_config": {}, "model_type": "qwen3_vl"}, "chat"),
        ("embedding", "x", {"architectures": ["BertForMaskedLM"]}, "embedding"),
        (
            "chat",
            "x",
            {
                "model_type": "qwen3",
                "architectures": ["Qwen3ForSequenceClassification"],
                "id2label": {"0": "score"},
            },
            "rerank",
        ),
    ],
)
def test_the_type_comes_from_the_files(disk, kind, name, changes, expected):
    folder = disk.put(kind, disk.search / name)
    change(folder / "config.json", **changes)
    assert types_of(disk.load()) == {name: expected}, reasons_of(disk.load())
