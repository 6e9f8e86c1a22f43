"""``mlxnode key``: which key it tells, and to whom."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxnode.cli import main
from mlxnode.config.keys import digest_of

CONFIG = """
[api]
api_key = "sk-first"
api_key_file = "keys.txt"
admin_key = "sk-admin"
[api.keys.alice]
key = "sk-alice"
models = ["m"]
[api.keys.bob]
key_file = "bob.key"
[api.keys.carol]
sha256 = "{digest}"
[api.models.m]
path = "m"
type = "chat"
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("MLXNODE_API_KEY", "MLXNODE_ADMIN_KEY", "MLXNODE_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, text: str = CONFIG) -> str:
    (folder / "keys.txt").write_text("sk-second\nsk-third\n")
    (folder / "bob.key").write_text("sk-old-bob\nsk-new-bob\n")
    file = folder / "config.toml"
    file.write_text(text.replace("{digest}", digest_of("sk-carol").hex()))
    for name in ("keys.txt", "bob.key", "config.toml"):
        (folder / name).chmod(0o600)
    return str(file)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ([], "sk-first"),
        (["alice"], "sk-alice"),
        (["bob"], "sk-new-bob"),
        (["--admin"], "sk-admin"),
        (["--model", "m"], "sk-first"),
        (["alice", "--model", "m"], "sk-alice"),
    ],
)
def test_key_is_the_one_that_is_asked_for(tmp_path, capsys, options, key):
    assert main(["key", *options, "--config", write(tmp_path)]) == 0
    written = capsys.readouterr()
    assert (written.out, written.err) == (f"{key}\n", "")


def test_key_with_json_says_where_it_stands(tmp_path, capsys):
    assert main(["key", "bob", "--config", write(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"key": "sk-new-bob", "source": "api.keys.bob.key_file"}


def test_key_of_the_environment_is_told_if_there_is_no_other(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLXNODE_API_KEY", "sk-environment")
    config = write(tmp_path, "[api]\n")
    assert main(["key", "--config", config]) == 0
    assert capsys.readouterr().out == "sk-environment\n"


def test_key_for_every_model_comes_before_one_for_some(tmp_path, capsys):
    config = write(
        tmp_path,
        '[api.keys.a]\nkey = "sk-a"\nmodels = ["m"]\n[api.keys.b]\nkey = "sk-b"\n'
        '[api.models.m]\npath = "m"\ntype = "chat"\n',
    )
    assert main(["key", "--config", config]) == 0
    assert capsys.readouterr().out == "sk-b\n"


@pytest.mark.parametrize(
    ("text", "options", "code", "error"),
    [
        (CONFIG, ["carol"], 1, "api.keys.carol: only the SHA-256 is known"),
        (CONFIG, ["dave"], 2, "api.keys.dave: no such key; there are alice, bob, carol"),
        ('[api]\napi_key = "k"\n', ["--admin"], 1, "api.admin_key: there is none"),
        ("[api]\nrequire_auth = false\n", [], 1, "there is no key"),
        ('[api.keys.carol]\nsha256 = "{digest}"\n', [], 1, "set MLXNODE_API_KEY to the key"),
        (CONFIG, ["alice", "--model", "other"], 1, "no key that can be told may use other"),
        (CONFIG, ["alice", "--admin"], 2, "--admin goes with neither NAME nor --model"),
    ],
)
def test_key_that_cannot_be_told_says_why(tmp_path, capsys, text, options, code, error):
    assert main(["key", *options, "--config", write(tmp_path, text)]) == code
    written = capsys.readouterr()
    assert written.out == "" and error in written.err


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "code"), [(0o644, 1), (0o640, 1), (0o600, 0)])
def test_key_is_not_written_into_a_file_of_others(tmp_path, mode, code):
    command = [sys.executable, "-m", "mlxnode", "key", "--config", write(tmp_path)]
    target = tmp_path / "log"
    target.touch()
    target.chmod(mode)
    with target.open("w") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == code
    assert target.read_text() == ("" if code else "sk-first\n")
    assert ("a file that others can read" in ended.stderr) == bool(code)
    assert "sk-first" not in ended.stderr
    assert subprocess.run(command, stdout=subprocess.PIPE).stdout.decode() == "sk-first\n"
    with open(os.devnull, "w") as nowhere:
        assert subprocess.run(command, stdout=nowhere).returncode == 0
