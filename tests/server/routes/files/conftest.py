"""A worker with files and batches in a folder of its own."""

import io
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from support.worker_process import WorkerProcess

from mlxnode.batches.store import BatchStore

MAX_FILE = 64 * 1024 * 1024
QUOTA = 80 * 1024 * 1024


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "batches"


@pytest.fixture(scope="session")
def storing_worker(start_worker, served_models, folder) -> Iterator[WorkerProcess]:
    batches = {
        "folder": str(folder),
        "max_file_bytes": MAX_FILE,
        "max_bytes_per_key": QUOTA,
        "max_open_per_key": 5,
    }
    server = {"batches": batches, "request_timeout": 10.0, "max_body_bytes": 1_000_000}
    with start_worker(served_models, {}, server) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def worker(storing_worker: WorkerProcess, folder: Path) -> Iterator[WorkerProcess]:
    """The worker; the files and batches of the test end with it."""
    storing_worker.settle()
    yield storing_worker
    store = BatchStore(folder)
    try:
        for batch in store.open_batches():
            store.finish(batch.id, "cancelled")
    finally:
        store.close()
    with storing_worker.client() as client:
        for file in client.files.list():
            client.files.delete(file.id)


@pytest.fixture
def client(worker: WorkerProcess) -> openai.OpenAI:
    return worker.client()


@pytest.fixture
def upload(client: openai.OpenAI):
    def upload(data: bytes = b"{}\n", name: str = "lines.jsonl", purpose="batch", **fields):
        return client.files.create(file=(name, io.BytesIO(data)), purpose=purpose, **fields)

    return upload
