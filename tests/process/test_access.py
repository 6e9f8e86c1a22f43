"""New keys and certificates, found in the files of a node that runs."""

import logging
from pathlib import Path

import pytest
from support.certificates import make_pair

from mlxnode.config.file import LoadedConfig, load_config
from mlxnode.config.tables import ApiConfig
from mlxnode.messages.control import Access
from mlxnode.process.access import AccessWatch, hand_out
from mlxnode.process.ledger import Ledger

MODEL = "[api.models.m]\npath = '/m'\ntype = 'chat'\n"


class Watched:
    """A watch that looks when the test says so."""

    def __init__(self, folder: Path):
        self.file = folder / "config.toml"
        self.found: list[LoadedConfig] = []
        self.write("api_key = 'sk-1'")
        self.watch = AccessWatch(self.load(), self.load)
        self.watch._on_change = self.found.append

    def load(self) -> LoadedConfig:
        return load_config(self.file, environ={})

    def write(self, api: str, rest: str = MODEL) -> None:
        self.file.write_text(f"[api]\n{api}\n{rest}")
        self.file.chmod(0o600)

    def look(self, times: int = 3, **options: bool) -> None:
        for _ in range(times):
            self.watch.look(**options)

    @property
    def num_keys(self) -> list[int]:
        return [len(loaded.api_keys) for loaded in self.found]


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
    watched.look(1, is_asked=True)
    assert watched.num_keys == [1]
    watched.look(1, is_asked=True)
    assert watched.num_keys == [1] and "nothing is new" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["api_key = 5", "api_key = ''", "", "api_key = 'sk-1", "keys.a.key_file = 'none'", "x = 1"],
)
def test_watch_keeps_the_keys_while_the_file_is_wrong(watched, caplog, text):
    watched.write(text)
    watched.look(5)
    assert watched.found == []
    assert caplog.text.count("keys and certificate stay as they are") == 1
    watched.write("api_key = 'sk-2'")
    watched.look()
    assert watched.num_keys == [1]


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
    watched.watch = AccessWatch(watched.load(), watched.load)
    watched.watch._on_change = watched.found.append
    (tmp_path / "new").mkdir()
    new = make_pair(tmp_path / "new")
    new.certificate.replace(tmp_path / "node.pem")
    watched.look()
    assert watched.found == [] and "the key of another certificate" in caplog.text
    new.key.replace(tmp_path / "node.key")
    watched.look()
    [loaded] = watched.found
    assert loaded.certificate.chain == (tmp_path / "node.pem").read_bytes()
    assert "a new certificate" in caplog.text


def test_watch_says_what_waits_for_the_next_start(watched, caplog):
    watched.write(
        "api_key = 'sk-1'", MODEL + "[server]\nworkers = 3\n[engine]\nmemory_gb = 1\n"
    )
    watched.look()
    assert "at the next start: engine.memory_gb, server.workers" in caplog.text
    watched.write("api_key = 'sk-1'", MODEL + "max_requests_per_minute = 7\n")
    watched.look()
    assert "other rate limits" in caplog.text and "api.models" not in caplog.text


class Worker:
    """What ``hand_out`` knows of a child."""

    def __init__(self):
        self.arguments = (0, Access(keys=[]), None)
        self.sent = []
        self.send = self.sent.append


def test_hand_out_reaches_running_and_later_workers_and_the_ledger(watched):
    ledger = Ledger(ApiConfig(max_requests_per_minute=1))
    key = watched.load().api_keys[0].id
    assert ledger.reserve("w", 1, key, "m", 1).refused is None
    assert ledger.reserve("w", 2, key, "m", 1).refused == "requests"
    watched.write("api_key = 'sk-1'\nmax_requests_per_minute = 100")
    watched.look()
    worker = Worker()
    hand_out(watched.found[0], ledger, [worker])
    [access] = worker.sent
    assert worker.arguments == (0, access, None)
    assert access.is_limited and [known.id for known in access.keys] == [key]
    granted = ledger.reserve("w", 3, key, "m", 1)
    assert (granted.refused, granted.requests.limit) == (None, 100)
