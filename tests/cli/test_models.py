"""``mlxnode models``: what is found, configured, broken and not served."""

import json
from pathlib import Path

import pytest
from support import tiny

from mlxnode.cli import main, model_rows
from mlxnode.figures import NodeFigures
from mlxnode.models.fit import Weighed

SEARCH = '[server.discovery]\nsearch = ["{}"]\nhuggingface = false\nlm_studio = false\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five models of all kinds and a broken one."""
    folder = tmp_path_factory.mktemp("models")
    tiny.make_chat_model(folder / "Chat-4bit")
    tiny.make_chat_model(folder / "Other")
    tiny.make_embedding_model(folder / "embed")
    tiny.make_cross_encoder(folder / "ranker")
    quantized = folder / "Chat-4bit" / "config.json"
    table = json.loads(quantized.read_text()) | {"quantization": {"bits": 4, "group_size": 64}}
    quantized.write_text(json.dumps(table))
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{}")
    return folder


@pytest.fixture(autouse=True)
def weighed(monkeypatch) -> list[str]:
    """The ids of the models that were weighed, without a process for it."""
    ids: list[str] = []

    def weigh(models, config) -> dict[str, Weighed]:
        ids.extend(model.id for model in models)
        return {model.id: Weighed("yes", "fits", True) for model in models}

    monkeypatch.setattr(model_rows, "weigh", weigh)
    return ids


@pytest.fixture
def config(tmp_path, folder, monkeypatch) -> str:
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "config.toml"
    file.write_text(
        '[api]\nrequire_auth = false\naddress = "127.0.0.1:1"\n'
        + SEARCH.format(folder)
        + 'enabled = true\naliases = {best = "Other"}\n'
        + f'[api.models.mine]\npath = "{folder}/embed"\ntype = "embedding"\n'
        + '[api.models.gone]\npath = "/no/model"\ntype = "chat"\n'
    )
    return str(file)


def test_models_are_those_configured_and_found(config, capsys, folder):
    assert main(["models", "--config", config, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["is_running"] is False
    rows = {row["id"]: row for row in listed["models"]}
    assert {id: (row["type"], row["origin"], row["on_disk"]) for id, row in rows.items()} == {
        "mine": ("embedding", "configured", True),
        "gone": ("chat", "configured", False),
        "Chat-4bit": ("chat", "found", True),
        "Other": ("chat", "found", True),
        "ranker": ("rerank", "found", True),
    }
    assert rows["Other"]["aliases"] == ["best", "other"]
    assert rows["Chat-4bit"]["quantization"] == "4 bits"
    assert rows["Other"]["quantization"] == ""
    assert rows["Other"]["context_length"] == 512 and rows["Other"]["fit"] == "yes"
    assert rows["gone"]["size_bytes"] is None and rows["gone"]["fit"] == ""
    reasons = {one["id"]: one["reason"] for one in listed["skipped"]}
    assert "names no model_type" in reasons["broken"]
    assert reasons["embed"] == "it is served as mine"


def test_models_as_text_names_what_is_not_served_with_all(config, capsys):
    assert main(["models", "--config", config]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split()[:4] == ["ID", "TYPE", "SIZE", "CONTEXT"]
    assert "2 on the disk are not served: mlxnode models --all" in text
    assert "STATE" not in text  # no node runs
    assert main(["models", "--config", config, "--all"]) == 0
    text = capsys.readouterr().out
    assert "names no model_type" in text and "it is served as mine" in text


def test_models_of_a_running_node_have_its_verdicts(config, capsys, monkeypatch, weighed):
    figures = NodeFigures(
        version="1",
        address="127.0.0.1:1",
        pid=1,
        uptime=1.0,
        descriptor_limit=1,
        is_draining=False,
        processes=[],
        failed_models={"gone": "no such folder"},
        engine=None,
        fits={"Other": "no"},
    )
    monkeypatch.setattr("mlxnode.process.status_socket.read_status", lambda port: figures)
    assert main(["models", "--config", config, "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert rows["Other"]["fit"] == "no" and "Other" not in weighed
    assert rows["gone"]["state"] == "failed"


def test_models_with_a_broken_configuration_exits_with_2(config, capsys):
    Path(config).write_text("[api]\nadress = 1\n")
    assert main(["models", "--config", config, "--json"]) == 2
    assert "did you mean address?" in json.loads(capsys.readouterr().out)["error"]
