"""Engine processes and tiny models for the tests of this folder."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlx import nn
from mlx_lm.utils import load_model
from support import tiny
from support.engine_process import EngineProcess

from mlxnode.config.tables import EngineConfig, NodeConfig
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


@pytest.fixture(scope="session")
def model(tiny_folder) -> nn.Module:
    """The tiny chat model, loaded; ``model.folder`` has its tokenizer."""
    model = load_model(tiny_folder)[0]
    model.folder = tiny_folder
    return model


@pytest.fixture(scope="session")
def model_of(tmp_path_factory) -> Callable[[int], nn.Module]:
    """A tiny chat model with heads of that size."""

    def make(head_size: int) -> nn.Module:
        folder = tmp_path_factory.mktemp("model")
        tiny.make_chat_model(folder, hidden=4 * head_size, heads=4, kv_heads=2)
        return load_model(folder)[0]

    return functools.cache(make)
