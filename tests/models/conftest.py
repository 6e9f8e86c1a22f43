"""Models on a disk, for the tests of discovery."""

from pathlib import Path

import pytest
from support.disk import Disk, make_models


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def disk(tmp_path, monkeypatch, models) -> Disk:
    disk = Disk(tmp_path, models)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(disk.hub))
    return disk
