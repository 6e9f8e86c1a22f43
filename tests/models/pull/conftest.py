"""A hub on this machine, for the library in this process."""

import pytest
from support.fake_hub import FakeHub, fake_hub


@pytest.fixture
def hub(tmp_path, monkeypatch) -> FakeHub:
    with fake_hub() as hub:
        constants = "huggingface_hub.constants."
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants + "ENDPOINT", hub.url)
        monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants + "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
        yield hub
