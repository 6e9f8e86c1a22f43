"""Models on the disk: which are found, as what, under which names; and what is not served."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import tiny
from support.gguf_files import CASES, make_model, write_model

from mlxnode.config.file import LoadedConfig, load_config
from mlxnode.errors import ConfigError
from mlxnode.models.discovery import listing
from mlxnode.models.discovery.complete import complete
from mlxnode.models.discovery.find import Found, find_models
from mlxnode.models.discovery.listing import Lister
from mlxnode.models.resolve import resolve_each


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """One model of each type, to copy from."""
    folder = tmp_path_factory.mktemp("models")
    tiny.make_chat_model(folder / "chat")
    tiny.make_embedding_model(folder / "embedding")
    tiny.make_cross_encoder(folder / "rerank")
    plain = tiny.make_chat_model(folder / "completion")
    change(plain / "tokenizer_config.json", chat_template=None)
    case = CASES["qwen3"]
    source, config = make_model(case, tmp_path_factory.mktemp("source"))
    tiny.make_tokenizer(folder / "tokenizer")
    write_model(folder / "m.gguf", case, source, config, folder / "tokenizer")
    return folder


def change(file: Path, **values: object) -> None:
    """Set keys of a JSON file; None removes one."""
    old = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in old.items() if value is not None}))


class Disk:
    """The places where models are looked for, empty at first."""

    def __init__(self, folder: Path, models: Path):
        self.folder = folder
        self.search = folder / "search"
        self.hub = folder / "hub"
        self.lm_studio = folder / "home/.lmstudio/models"
        self.search.mkdir()
        self._models = models
        self.config = folder / "config.toml"

    def put(self, kind: str, place: Path) -> Path:
        """A copy of a model."""
        source = self._models / kind
        if source.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(source.read_bytes())
            return place
        for file in source.rglob("*"):
            if file.is_file():
                target = place / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        return place

    def put_in_hub(self, kind: str, repository: str, revision: str = "abc") -> Path:
        """A repository whose main is ``revision``; returns its folder."""
        folder = self.hub / f"models--{repository.replace('/', '--')}"
        self.put(kind, folder / "snapshots" / revision)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs/main").write_text(revision)
        (folder / "blobs").mkdir(exist_ok=True)
        return folder

    def load(self, table: str = "", rest: str = "", api: str = "") -> LoadedConfig:
        self.config.write_text(
            f"[api]\nrequire_auth = false\n{api}\n{rest}\n[server.discovery]\n"
            f"search = ['search']\n{table}"
        )
        self.config.chmod(0o600)
        return complete(load_config(self.config, environ={}))

    def found(self, **arguments: object) -> Found:
        discovery = load_config(self.config, environ={}).config.server.discovery
        return find_models(discovery, self.folder, **arguments)


@pytest.fixture
def disk(tmp_path, monkeypatch, models) -> Disk:
    disk = Disk(tmp_path, models)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(disk.hub))
    return disk


def types_of(loaded: LoadedConfig) -> dict[str, str]:
    return {id: model.type for id, model in loaded.config.api.models.items()}


def reasons_of(loaded: LoadedConfig) -> dict[str, str]:
    return {skipped.path.name: skipped.reason for skipped in loaded.skipped}


# --- what is found ------------------------------------------------------------------------


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


# --- what is not served -------------------------------------------------------------------


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


# --- the configuration --------------------------------------------------------------------


def test_nothing_found_serves_the_demo_models_with_a_file_and_without(disk, monkeypatch):
    demo = {"smollm2-135m-instruct": "chat", "all-minilm-l6-v2": "embedding"}
    assert types_of(disk.load()) == demo
    monkeypatch.chdir(disk.folder / "search")
    alone = complete(load_config(environ={}))
    assert alone.file is None and types_of(alone) == demo
    assert all(model.preload for model in alone.config.api.models.values())
    disk.put_in_hub("chat", "org/Model")
    assert types_of(complete(load_config(environ={}))) == {"org/Model": "chat"}


def test_discovery_is_off_with_models_of_the_file_unless_it_is_enabled(disk):
    disk.put("chat", disk.search / "found")
    mine = disk.put("chat", disk.folder / "mine")
    table = f"[api.models.mine]\npath = '{mine}'\ntype = 'chat'\n"
    assert list(types_of(disk.load("", table))) == ["mine"]
    assert list(types_of(disk.load("enabled = true", table))) == ["mine", "found"]
    assert types_of(disk.load("enabled = false")) == {}


def test_models_of_the_command_line_are_no_demo(disk, monkeypatch):
    disk.put_in_hub("chat", "org/Model")
    monkeypatch.chdir(disk.folder / "search")
    models = {"mine": {"path": "/mine", "type": "chat"}}
    loaded = complete(load_config(environ={}, overrides={"api.models": models}))
    assert list(types_of(loaded)) == ["mine"]


def test_a_search_folder_that_is_not_there_is_a_warning(disk):
    loaded = disk.load()
    assert loaded.warnings == ()
    disk.search.rmdir()
    assert disk.load().warnings == ('server.discovery.search: "search" is no folder',)
    disk.config.write_text(
        "[server.discovery]\nsearch = ['~nobody-of-this-name/x']\n[api]\nrequire_auth = false\n"
    )
    with pytest.raises(ConfigError, match=r"config.toml: server.discovery.search = \"~nobody"):
        complete(load_config(disk.config, environ={}))


def test_idle_unload_of_found_models_can_be_set_and_switched_off(disk):
    disk.put("chat", disk.search / "found")
    assert disk.load("idle_unload = 5.0").config.api.models["found"].idle_unload == 5
    assert disk.load("idle_unload = 0").config.api.models["found"].idle_unload is None


# --- aliases ------------------------------------------------------------------------------


def test_short_names_are_not_ambiguous_and_hide_no_id(disk):
    disk.put_in_hub("chat", "one/Same")
    disk.put_in_hub("embedding", "two/Same")
    disk.put_in_hub("chat", "three/Taken")
    disk.put("chat", disk.search / "taken")
    loaded = disk.load()
    assert len(loaded.found) == 4 and loaded.aliases == {}


def test_aliases_of_the_user_name_any_model(disk):
    disk.put("chat", disk.search / "Found")
    mine = disk.put("chat", disk.folder / "mine")
    table = f"[api.models.mine]\npath = '{mine}'\ntype = 'chat'\n"
    aliases = "aliases = { gpt-4o = 'Found', small = 'found', own = 'mine' }"
    loaded = disk.load(f"enabled = true\n{aliases}", table)
    expected = {"gpt-4o": "Found", "small": "Found", "own": "mine"}
    assert loaded.aliases == expected | {"found": "Found"}
    assert disk.load("aliases = { own = 'mine' }", table).aliases == {"own": "mine"}


def test_an_alias_that_names_nothing_is_an_error_or_a_warning(disk):
    mine = disk.put("chat", disk.folder / "mine")
    table = f"[api.models.mine]\npath = '{mine}'\ntype = 'chat'\n"
    with pytest.raises(ConfigError, match=r"aliases.x = \"none\": there is no such model"):
        disk.load("aliases = { x = 'none' }", table)
    loaded = disk.load("enabled = true\naliases = { x = 'none' }", table)
    assert loaded.aliases == {} and 'x = "none": there is no such model' in loaded.warnings[0]


def test_an_alias_hides_no_model(disk):
    disk.put("chat", disk.search / "found")
    mine = disk.put("chat", disk.folder / "mine")
    table = f"[api.models.mine]\npath = '{mine}'\ntype = 'chat'\n"
    with pytest.raises(ConfigError, match=r"aliases\.mine: there is a model of this id"):
        disk.load("aliases = { mine = 'mine' }", table)
    loaded = disk.load("enabled = true\naliases = { found = 'mine' }", table)
    assert loaded.aliases == {} and "found model has this id" in loaded.warnings[0]
    with pytest.raises(ConfigError, match="expected a name"):
        disk.load('aliases = { "" = "mine" }', table)


def test_keys_may_name_found_models_and_aliases(disk):
    disk.put("chat", disk.search / "Found")
    key = "[api.keys.k]\nkey = 'sk-1'\nmodels = ['found', 'later']\n"
    loaded = disk.load("", key)
    assert loaded.api_keys[0].models == {"Found", "later"}
    assert loaded.warnings == ("api.keys.k.models: there is no model 'later' now",)
    mine = "[api.models.mine]\npath = 'mine'\ntype = 'chat'\n"
    with pytest.raises(ConfigError, match="no model is called 'found'"):
        disk.load("", key + mine)
