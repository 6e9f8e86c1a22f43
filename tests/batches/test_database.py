"""The database of files and batches, and its locks."""

from pathlib import Path

import pytest

from mlxnode.batches.database import Database, RunnerLock
from mlxnode.config.tables import BatchesConfig
from mlxnode.process.batch_process import batches_folder


def test_runner_lock_is_held_once(tmp_path):
    first, second = RunnerLock(tmp_path / "a"), RunnerLock(tmp_path / "a")
    assert first.take() and first.take()
    assert not second.take()
    first.release()
    assert second.take()
    second.release()


def test_batches_folder_is_in_the_state_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MLXNODE_STATE", str(tmp_path))
    assert batches_folder(BatchesConfig()) == tmp_path / "batches"
    assert batches_folder(BatchesConfig(folder="/x")) == Path("/x")


def test_database_undoes_a_transaction_that_fails(tmp_path):
    database = Database(tmp_path)
    with pytest.raises(ZeroDivisionError), database.writing() as connection:
        connection.execute("INSERT INTO results VALUES (1, 1, 0, x'00')")
        raise ZeroDivisionError
    with database.reading() as connection:
        assert connection.execute("SELECT * FROM results").fetchall() == []
    database.close()
