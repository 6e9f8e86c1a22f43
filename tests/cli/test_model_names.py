"""A shell completes names of models: from the file and the disk, fast, never an error."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from click.shell_completion import ShellComplete
from support import tiny

from mlxnode.cli.group import group
from mlxnode.cli.serve import LOG_LEVELS
from mlxnode.config.tables import LogLevel

CONFIG = """
[api.models.mine]
path = "nowhere"
[server.discovery]
search = ["models"]
aliases = { fast = "mine" }
"""
DEMO = ["all-minilm-l6-v2", "smollm2-135m-instruct"]
MODEL_WORDS = [
    ["serve"],
    ["serve", "mine"],
    ["run"],
    ["chat"],
    ["embed"],
    ["rm"],
    ["bench", "--model"],
    ["launch", "codex", "--model"],
    ["launch", "codex", "--small-model"],
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    tiny.make_chat_model(tmp_path / "models/Qwen3-8B-4bit")
    (tmp_path / "models/a/empty").mkdir(parents=True)
    hub = tmp_path / "hub"
    tiny.make_chat_model(hub / "models--org--Llama/snapshots/abc")
    (tmp_path / "config.toml").write_text(CONFIG)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complete(words: list[str], incomplete: str = "") -> list[tuple[str, str]]:
    shell = ShellComplete(group, {}, "mlxnode", "_MLXNODE_COMPLETE")
    return [(item.value, item.type) for item in shell.get_completions(words, incomplete)]


def names(words: list[str], incomplete: str = "") -> list[str]:
    return [name for name, _ in complete(words, incomplete)]


@pytest.mark.parametrize("words", MODEL_WORDS, ids=" ".join)
def test_names_of_all_models_are_completed(folder, words):
    ids = ["Qwen3-8B-4bit", "fast", "llama", "mine", "org/Llama", "qwen3-8b-4bit"]
    assert names(words) == sorted([*ids, *DEMO])
    assert names(words, "q") == ["qwen3-8b-4bit"] and names(words, "org/") == ["org/Llama"]
    assert names(words, "zzz") == []


@pytest.mark.parametrize("path", ["./models", "/tmp", "~/models", "../x"])
def test_paths_are_completed_by_the_shell(folder, path):
    assert complete(["serve"], path) == [(path, "file")]


def test_named_file_is_used(folder):
    (folder / "other.toml").write_text('[api.models.other]\npath = "x"\n')
    assert "other" in names(["serve", "--config", "other.toml"], "o")
    assert names(["serve"], "other") == []


@pytest.mark.parametrize(
    "text",
    [
        "[api",
        "api = 3",
        "[api]\nmodels = [1]\n[server]\ndiscovery = 'x'",
        "[server.discovery]\nsearch = 7",
        "[server.discovery]\nsearch = ['~nobody-at-all/x']",
        "\x00",
    ],
)
def test_wrong_file_is_no_error(folder, text, capsys):
    (folder / "config.toml").write_text(text)
    assert set(names(["serve"])) <= {*DEMO, "llama", "org/Llama"}
    assert capsys.readouterr() == ("", "")


def test_nothing_heavy_is_imported(folder):
    code = (
        "import sys, atexit\n"
        "heavy = {'mlx', 'sanic', 'numpy', 'transformers', 'rich', 'pydantic'}\n"
        "tell = lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "atexit.register(tell)\n"
        "from mlxnode.cli import main\nsys.exit(main())"
    )
    for words in MODEL_WORDS:
        line = " ".join(["mlxnode", *words, "Q"])
        asked = {"_MLXNODE_COMPLETE": "bash_complete", "COMP_WORDS": line}
        asked["COMP_CWORD"] = str(len(words) + 1)
        ended = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=os.environ | asked,
            check=True,
        )
        assert ended.stdout == "plain,Qwen3-8B-4bit\n", ended
        assert ended.stderr == "[]\n", words


def test_levels_of_the_log_are_those_of_the_configuration():
    assert get_args(LogLevel) == LOG_LEVELS
