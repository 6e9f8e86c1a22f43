"""Files with secrets that other users can read: warned of, and refused beyond loopback."""

import hashlib
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.certificates import make_pair
from support.config_file import OPEN, error_of
from support.ranks import write_hostfile

from mlxnode.config import permissions
from mlxnode.config.file import load_config
from mlxnode.config.permissions import exposure_of, is_writable_by_all

BEYOND = {"api.address": "0.0.0.0:1"}


@pytest.fixture(autouse=True)
def _hostfile(tmp_path):
    write_hostfile(tmp_path, 2)


def warnings_of(file: Path) -> tuple[str, ...]:
    return load_config(file, environ={}).warnings


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        (0o600, None),
        (0o400, None),
        (0o700, None),
        (0o711, None),  # nobody else can read it
        (0o640, "can be read by other users (mode 0640)"),
        (0o644, "can be read by other users (mode 0644)"),
        (0o604, "can be read by other users (mode 0604)"),
        (0o620, "can be changed by other users (mode 0620)"),
        (0o602, "can be changed by other users (mode 0602)"),
    ],
)
def test_exposure_of_an_own_file(monkeypatch, mode, found):
    set_file(monkeypatch, mode, owner=501, own=501)
    assert exposure_of(Path("x")) == found


@pytest.mark.parametrize(("mode", "is_exposed"), [(0o640, False), (0o660, True), (0o644, True)])
@pytest.mark.parametrize("own", [0, 501])
def test_exposure_of_a_file_of_root_that_one_group_reads(monkeypatch, mode, is_exposed, own):
    set_file(monkeypatch, mode, owner=0, own=own)
    assert (exposure_of(Path("x")) is not None) == is_exposed


def test_exposure_of_a_file_of_another_user(monkeypatch):
    set_file(monkeypatch, 0o600, owner=502, own=501)
    assert exposure_of(Path("x")) == "belongs to another user (uid 502)"
    set_file(monkeypatch, 0o600, owner=502, own=0)
    assert exposure_of(Path("x")) is None


def set_file(monkeypatch, mode: int, owner: int, own: int) -> None:
    status = SimpleNamespace(st_mode=stat.S_IFREG | mode, st_uid=owner)
    monkeypatch.setattr(permissions, "_regular", lambda file: status)
    monkeypatch.setattr(os, "geteuid", lambda: own)


def test_exposure_of_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o644)
    for name in ("pipe", "none", "."):
        assert exposure_of(tmp_path / name) is None
        assert not is_writable_by_all(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        "api_key = 'sk-a'",
        "keys.a.key = 'sk-a'",
        "admin_key = 'sk-a'",
        "[server.shared_limits]\nredis = 'redis://:sesame@h'",
        "[engine.distributed]\nhostfile = 'hosts.json'\nkey = 'sesame'",
    ],
)
def test_config_with_a_key_that_others_can_read(write, text):
    file = write(f"{OPEN}{text}\n")
    file.chmod(0o644)
    expected = "the file can be read by other users (mode 0644): use chmod 600"
    assert warnings_of(file) == (expected,)
    error = error_of(file, overrides=BEYOND)
    assert error.startswith(f"{file}: {expected}") and "0.0.0.0:1" in error
    file.chmod(0o600)
    assert warnings_of(file) == ()
    load_config(file, environ={}, overrides=BEYOND)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api_key = 'sk-your-secret-key'",  # everybody knows it
        f"keys.a.sha256 = '{hashlib.sha256(b'sk-a').hexdigest()}'",
        "[server.shared_limits]\nredis = 'redis://h'",
        "[server.shared_limits]\nredis = 'redis://user@h:1/2'",
    ],
)
def test_config_without_a_secret_may_be_read_by_all(write, text):
    file = write(f"{OPEN}{text}\n")
    file.chmod(0o644)
    assert warnings_of(file) == ()
    load_config(file, environ={}, overrides=BEYOND)


def test_config_that_all_can_change(write):
    file = write(OPEN)
    file.chmod(0o666)
    assert warnings_of(file) == ("the file can be changed by all users: use chmod o-w",)


@pytest.mark.parametrize("key", ["api_key_file", "keys.a.key_file", "admin_key_file"])
def test_key_file_that_others_can_read(write, tmp_path, key):
    (tmp_path / "k").write_text("sk-a\n")
    (tmp_path / "k").chmod(0o640)
    os.chown(tmp_path / "k", os.geteuid() or 501, -1)
    file = write(f'{OPEN}{key} = "k"\n')
    expected = f'api.{key} = "k" can be read by other users (mode 0640): use chmod 600'
    assert warnings_of(file) == (expected,)
    assert expected in error_of(file, overrides=BEYOND)
    (tmp_path / "k").chmod(0o600)
    load_config(file, environ={}, overrides=BEYOND)


def test_key_file_of_the_ranks_that_others_can_read(write, tmp_path):
    (tmp_path / "k").write_text("sesame\n")
    (tmp_path / "k").chmod(0o644)
    file = write(f"{OPEN}[engine.distributed]\nhostfile = 'hosts.json'\nkey_file = 'k'\n")
    [warning] = warnings_of(file)
    assert warning.startswith('engine.distributed.key_file = "k" can be read')
    assert "key_file" in error_of(file, overrides=BEYOND)


def test_key_of_the_certificate_that_others_can_read(write, tmp_path):
    made = make_pair(tmp_path)
    made.key.chmod(0o644)
    file = write(f'{OPEN}tls_certificate = "{made.certificate}"\ntls_key = "{made.key}"\n')
    assert len(warnings_of(file)) == 1
    assert "api.tls_key" in error_of(file, overrides=BEYOND)


def test_admin_key_of_the_example_is_refused_beyond_loopback(write):
    file = write(f"{OPEN}admin_key = 'sk-your-secret-key'\n")
    load_config(file, environ={})
    assert "choose a key of your own" in error_of(file, overrides=BEYOND)
