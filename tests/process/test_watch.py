"""What is new in the files of a node that runs, and who is told."""

import json
import logging
import threading
from pathlib import Path

import pytest
from support import tiny
from support.certificates import make_pair

from mlxnode.config.file import LoadedConfig, load_config
from mlxnode.errors import ConfigError, ModelError
from mlxnode.models.discovery.complete import complete
from mlxnode.models.resolve import resolve_each
from mlxnode.process.changes import NodeModels, at_run_time
from mlxnode.process.watch import ConfigWatch, Reload


class Watched:
    """A watch that looks when the test says so."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / "config.toml"
        self.model = tiny.make_chat_model(folder / "m")
        self.found: list[Reload] = []
        self.write("api_key = 'sk-1'")
        self.watch = self.make()

    def make(self) -> ConfigWatch:
        loaded = self.load()
        resolved = resolve_each(loaded.config, print, folder=self.folder)
        models = NodeModels(resolved.models, resolved.failed, loaded.aliases)
        watch = ConfigWatch(loaded, models, self.load)
        watch._on_change = self._take
        return watch

    def _take(self, reload: Reload) -> None:
        self.found.append(reload)
        reload.confirm()

    def load(self) -> LoadedConfig:
        return complete(load_config(self.file, environ={}))

    def write(self, api: str, rest: str = "", models: str = "m") -> None:
        tables = "".join(
            f"[api.models.{id}]\npath = '{id}'\ntype = 'chat'\n" for id in models.split()
        )
        self.file.write_text(f"[api]\n{api}\n{tables}{rest}")
        self.file.chmod(0o600)

    def look(self, times: int = 3) -> None:
        for _ in range(times):
            self.watch.look()

    def ask(self) -> list[str]:
        answer = self.watch.ask()
        self.watch.look()
        return answer.result(0)

    @property
    def num_keys(self) -> list[int]:
        return [len(reload.loaded.api_keys) for reload in self.found]

    @property
    def ids(self) -> list[str]:
        """The models that are served last."""
        return [model.id for model in self.found[-1].models.models]


@pytest.fixture
def watched(tmp_path, caplog) -> Watched:
    caplog.set_level(logging.INFO)
    return Watched(tmp_path)


def test_watch_reads_nothing_while_nothing_changes(watched, caplog):
    watched.look(5)
    assert watched.found == [] and caplog.text == ""


def test_watch_finds_a_new_key_once(watched, caplog):
    watched.write("api_key = 'sk-1'\nkeys.bob.key = 'sk-2'")
    watched.look(5)
    assert watched.num_keys == [2]
    assert "read again: new keys: bob" in caplog.text and "sk-" not in caplog.text
    watched.write("api_key = 'sk-1'")
    watched.look(5)
    assert watched.num_keys == [2, 1]
    assert "keys without access: bob" in caplog.text


def test_watch_reads_a_file_that_stays_the_same_for_two_looks(watched):
    for number in range(2, 5):  # it is still being written
        watched.write(f"api_key = 'sk-{'0' * number}'")
        watched.look(1)
    assert watched.found == []
    watched.look(1)
    assert watched.num_keys == [1]


def test_watch_reads_at_once_when_it_is_asked(watched, caplog):
    watched.write("api_key = 'sk-2'")
    [new, old] = watched.ask()
    assert new.startswith("new keys: ") and old.startswith("keys without access: ")
    assert watched.num_keys == [1]
    assert watched.ask() == []
    assert watched.num_keys == [1] and "nothing is new" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        *("api_key = 5", "api_key = ''", "", "api_key = 'sk-1", "keys.a.key_file = 'none'"),
        *("x = 1", "api_key = 'sk-1'\ncors_origins = ['http://a/']"),
    ],
)
def test_watch_keeps_the_keys_while_the_file_is_wrong(watched, caplog, text):
    watched.write(text)
    watched.look(5)
    assert watched.found == []
    assert caplog.text.count("the configuration stays as it is") == 1
    with pytest.raises(ConfigError, match=r"config\.toml: "):
        watched.ask()
    assert watched.found == []
    watched.write("api_key = 'sk-2'")
    watched.look()
    assert watched.num_keys == [1]


def test_watch_keeps_the_models_while_a_value_of_one_is_wrong(watched):
    watched.write("api_key = 'sk-1'", "context_length = 100000\n")
    with pytest.raises(ConfigError, match="context_length = 100000: the model has 512"):
        watched.ask()
    assert watched.found == []


def test_watch_waits_for_a_file_that_does_not_exist_yet(watched, tmp_path):
    watched.write("api_key_file = 'keys'")
    watched.look()
    assert watched.found == []
    (tmp_path / "keys").write_text("sk-1\nsk-2\n")
    watched.look()
    assert watched.num_keys == [2]
    (tmp_path / "keys").write_text("sk-1\nsk-2\nsk-3\n")
    watched.look()
    assert watched.num_keys == [2, 3]
    (tmp_path / "keys").unlink()
    watched.look()
    assert watched.num_keys == [2, 3]


def test_watch_finds_a_certificate_when_both_files_are_new(watched, tmp_path, caplog):
    tls = "api_key = 'sk-1'\ntls_certificate = 'node.pem'\ntls_key = 'node.key'"
    make_pair(tmp_path)
    watched.write(tls)
    watched.watch = watched.make()
    (tmp_path / "new").mkdir()
    new = make_pair(tmp_path / "new")
    new.certificate.replace(tmp_path / "node.pem")
    watched.look()
    assert watched.found == [] and "the key of another certificate" in caplog.text
    new.key.replace(tmp_path / "node.key")
    watched.look()
    [reload] = watched.found
    assert reload.loaded.certificate.chain == (tmp_path / "node.pem").read_bytes()
    assert "a new certificate" in caplog.text


def test_watch_says_what_waits_for_the_next_start(watched, caplog):
    watched.write("api_key = 'sk-1'", "[server]\nworkers = 3\n[engine]\nmemory_gb = 1\n")
    assert watched.ask() == ["at the next start: engine.memory_gb, server.workers"]
    config = watched.found[-1].loaded.config
    start = watched.load().config.model_copy(update={"api": config.api})
    assert at_run_time(load_config(watched.file, environ={}).config, config) == start
    watched.write("api_key = 'sk-1'", "max_requests_per_minute = 7\n")
    assert watched.ask() == ["other rate limits"]


def test_what_waits_for_the_next_start_does_not_count_before(watched):
    start = watched.load().config
    watched.write("api_key = 'sk-1'\nmax_requests_per_minute = 9", "[server]\nworkers = 3\n")
    now = at_run_time(start, watched.load().config)
    assert now.server == start.server and now.api.max_requests_per_minute == 9


def test_watch_finds_new_changed_and_gone_models(watched):
    tiny.make_chat_model(watched.folder / "n")
    watched.write("api_key = 'sk-1'", models="m n")
    assert watched.ask() == ["new models: n"]
    assert watched.ids == ["m", "n"]
    watched.write("api_key = 'sk-1'", "context_length = 100\n", models="m n")
    assert watched.ask() == ["changed models: n"]
    tiny.make_chat_model(watched.folder / "m", layers=3)  # other weights at the same place
    assert watched.ask() == ["changed models: m"]
    watched.write("api_key = 'sk-1'", models="n")
    assert watched.ask() == ["models that are gone: m", "changed models: n"]
    assert watched.ids == ["n"]


def test_watch_serves_the_others_without_a_model_that_is_broken(watched):
    watched.write("api_key = 'sk-1'", models="m none")
    [change] = watched.ask()
    assert change.startswith("model none cannot be served: none: there is no such folder")
    assert watched.ids == ["m"]
    tiny.make_chat_model(watched.folder / "none")
    assert watched.ask() == ["models that are served again: none"]
    assert watched.ids == ["m", "none"]


def test_watch_says_that_origins_have_changed(watched):
    watched.write("api_key = 'sk-1'\ncors_enabled = true\ncors_origins = ['http://a']")
    assert watched.ask() == ["origins of web pages: http://a"]
    watched.write("api_key = 'sk-1'\ncors_origins = ['http://a']")
    assert watched.ask() == ["origins of web pages: none"]


def test_watch_finds_what_is_new_on_the_disk_when_it_is_asked(watched, monkeypatch):
    rest = "[server.discovery]\nenabled = true\nsearch = ['found']\nhuggingface = false\n"
    rest += "lm_studio = false\n"
    watched.write("api_key = 'sk-1'", rest + "aliases = { other = 'New' }\n")
    assert watched.ask() == []
    tiny.make_chat_model(watched.folder / "found/New")
    watched.look(5)
    assert watched.found == []
    assert watched.ask() == ["new models: New", "new aliases: new, other"]
    assert watched.ids == ["m", "New"]
    (watched.folder / "found/New/config.json").unlink()
    assert watched.ask() == ["models that are gone: New", "aliases that are gone: new, other"]


class Hub:
    """Downloads that end when the test says so."""

    def __init__(self, folder: Path):
        self._source = tiny.make_chat_model(folder / "source")
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.has_ended = threading.Event()
        self.target = folder / "cached"
        self.error: Exception | None = None
        self.num_fetches = 0

    def find(self, path: str) -> Path | None:
        return self.target if self.target.exists() else None

    def fetch(self, path: str, meter: object = None) -> Path:
        self.num_fetches += 1
        self.has_begun.set()
        assert self.may_end.wait(20)
        if self.error is not None:
            raise self.error
        self._source.rename(self.target)
        return self.target


@pytest.fixture
def hub(watched, monkeypatch) -> Hub:
    hub = Hub(watched.folder)
    monkeypatch.setattr("mlxnode.models.hub.find_in_cache", hub.find)
    monkeypatch.setattr("mlxnode.models.hub.fetch", hub.fetch)
    real = watched.watch._downloads._on_end

    def on_end() -> None:
        real()
        hub.has_ended.set()

    watched.watch._downloads._on_end = on_end
    watched.write("api_key = 'sk-2'", "[api.models.big]\npath = 'org/big'\ntype = 'chat'\n")
    return hub


def test_keys_do_not_wait_for_the_download_of_a_model(watched, hub):
    answer = watched.watch.ask()
    watched.look(1)
    assert watched.num_keys == [1] and watched.ids == ["m"]
    assert watched.found[-1].models.failed == {"big": "it is being downloaded"}
    assert not answer.done()
    watched.write("api_key = 'sk-3'", "[api.models.big]\npath = 'org/big'\ntype = 'chat'\n")
    watched.look()
    assert watched.num_keys == [1, 1]
    assert hub.has_begun.wait(20) and hub.num_fetches == 1  # in a thread
    hub.may_end.set()
    assert hub.has_ended.wait(20)
    watched.look(1)
    assert watched.ids == ["m", "big"]
    assert "models that are served again: big" in answer.result(0)


def test_a_download_that_fails_is_told_and_tried_again_when_that_is_asked(watched, hub):
    hub.error = ModelError("the hub does not know it")
    hub.may_end.set()
    answer = watched.watch.ask()
    watched.look(1)
    assert hub.has_ended.wait(20)
    watched.look(1)
    assert "model big cannot be served: the hub does not know it" in answer.result(0)
    watched.look(5)
    assert hub.num_fetches == 1
    hub.error = None
    hub.has_ended.clear()
    answer = watched.watch.ask()
    watched.look(1)
    assert hub.has_ended.wait(20)
    watched.look(1)
    assert answer.done() and watched.ids == ["m", "big"]


def test_a_folder_that_changes_while_nobody_asks_is_left_alone(watched):
    file = watched.model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"x": 1}))
    watched.look(5)
    assert watched.found == []


def test_watch_tells_who_asks_what_it_has_just_read(watched, monkeypatch):
    watched.write("api_key = 'sk-2'")
    watched.look()
    told = watched.ask()
    assert told and all(line.startswith("already read: ") for line in told)
    monkeypatch.setattr("mlxnode.process.watch.RECENT", 0.0)
    assert watched.ask() == []
