"""What an engine writes before a step is there after its death."""

import multiprocessing
import os
import signal
import tempfile

import pytest

from mlxnode.process import step_record
from mlxnode.process.step_record import MAX_FINGERPRINTS, StepRecord


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture(params=["memory", "file"])
def record(request, monkeypatch):
    if request.param == "file":  # as on macOS
        monkeypatch.delattr(os, "memfd_create", raising=False)
    record = StepRecord()
    record.open()
    yield record
    record.close()


def test_record_holds_what_was_written_last(record):
    assert record.read() == []
    record.write([name(1), name(2)])
    record.write([name(3)])
    assert record.read() == [name(3)]
    record.write([name(i) for i in range(MAX_FINGERPRINTS + 5)])
    assert len(record.read()) == MAX_FINGERPRINTS
    record.write(())
    assert record.read() == []


def write_and_die(record: StepRecord) -> None:
    record.write([name(7), name(8)])
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_record_outlives_the_process_that_wrote_it(record):
    process = multiprocessing.get_context("spawn").Process(target=write_and_die, args=(record,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert record.read() == [name(7), name(8)]


def test_record_that_cannot_be_opened_records_nothing(monkeypatch, caplog):
    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory")

    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    record = StepRecord()
    with caplog.at_level("INFO"):
        record.open()
    assert "are not recorded: No usable temporary directory" in caplog.text
    record.write([name(1)])
    assert record.read() == []
    record.close()


def test_record_is_left_alone_by_a_full_disk(record, monkeypatch):
    record.write([name(1)])

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step_record.os, "pwrite", refuse)
    record.write([name(2)])
    assert record.read() == [name(1)]
