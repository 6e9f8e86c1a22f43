"""Engine processes and tiny models for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
from engine_process import EngineProcess

from mlxnode.config import EngineConfig, NodeConfig
from mlxnode.models.served import ServedModel


@pytest.fixture
def start_engine() -> Iterator[Callable[..., EngineProcess]]:
    engines: list[EngineProcess] = []

    def start(*models: ServedModel, **engine: object) -> EngineProcess:
        config = NodeConfig(engine=EngineConfig(**engine))
        engines.append(EngineProcess(config, list(models)))
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"))
