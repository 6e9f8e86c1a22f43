"""The store of a node that a test starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxnode.batches.store import BatchStore


@pytest.fixture
def state(tmp_path, monkeypatch) -> Path:
    """The folder of files and batches of nodes that the test starts."""
    monkeypatch.setenv("MLXNODE_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "batches"


@pytest.fixture
def store(state) -> Iterator[BatchStore]:
    """The store in that folder."""
    store = BatchStore(state)
    yield store
    store.close()
