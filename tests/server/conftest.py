"""Worker processes with tiny models; support/worker_process.py says how tests script them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import tiny
from support.worker_process import ORIGIN, WorkerProcess, started_worker

from mlxnode.models.served import ServedModel


@pytest.fixture(scope="session")
def served_models(tmp_path_factory: pytest.TempPathFactory) -> list[ServedModel]:
    """A chat, a completion and an embedding model, all with the byte tokenizer."""
    chat = tiny.make_chat_model(tmp_path_factory.mktemp("models") / "chat")
    embedding = tiny.make_chat_model(
        tmp_path_factory.mktemp("models") / "embedding", context=64
    )

    def serve(id: str, type: str, folder: Path, **facts: Any) -> ServedModel:
        return ServedModel(
            **{
                "id": id,
                "type": type,
                "folder": folder,
                "weights": folder,
                "architecture": "llama",
                "context_length": 1024,
                "dimensions": None,
                "default_temperature": None,
                "size_bytes": 1,
                "created": 1_700_000_000,
            }
            | facts
        )

    return [
        serve("tiny-chat", "chat", chat, default_temperature=0.7),
        serve("org/tiny-text", "completion", chat),
        serve("tiny-embedding", "embedding", embedding, dimensions=8, matryoshka=(4,)),
    ]


@pytest.fixture(scope="session")
def tool_model(
    served_models: list[ServedModel], tmp_path_factory: pytest.TempPathFactory
) -> ServedModel:
    """A chat model whose template knows tools and thinking."""
    folder = tmp_path_factory.mktemp("models") / "tools"
    tiny.make_chat_model(folder, template=tiny.TOOL_TEMPLATE)
    return dataclasses.replace(served_models[0], folder=folder, context_length=8192)


@pytest.fixture(scope="session")
def start_worker() -> Any:
    """A context manager that starts a worker of its own for a test that ends it."""
    return started_worker


@pytest.fixture(scope="session")
def full_worker(served_models: list[ServedModel]) -> Iterator[WorkerProcess]:
    api = {
        "max_requests_per_minute": 60,
        "max_tokens_per_minute": 100_000,
        "cors_enabled": True,
        "cors_origins": [ORIGIN],
    }
    with started_worker(served_models, api, {"max_body_bytes": 1_000_000}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture(scope="session")
def open_worker(served_models: list[ServedModel]) -> Iterator[WorkerProcess]:
    with started_worker(served_models, {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture(scope="session")
def tool_worker(tool_model: ServedModel) -> Iterator[WorkerProcess]:
    with started_worker([tool_model], {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def worker(full_worker: WorkerProcess) -> WorkerProcess:
    """A worker with keys, limits and CORS, and an engine that says "Hello!"."""
    full_worker.settle()
    return full_worker


@pytest.fixture
def plain_worker(open_worker: WorkerProcess) -> WorkerProcess:
    """A worker without any of these."""
    open_worker.settle()
    return open_worker


@pytest.fixture
def native(tool_worker: WorkerProcess) -> WorkerProcess:
    """A worker whose "tiny-chat" knows tools and thinking."""
    tool_worker.settle()
    return tool_worker


@pytest.fixture
def own_worker(start_worker, served_models):
    """A worker that the test may end."""
    with start_worker(served_models, {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker
