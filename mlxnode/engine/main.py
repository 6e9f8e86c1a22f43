"""The engine process after its start: load the models, then serve.

``entry`` prepares the process before this file, and with it mlx, is imported.
"""

import functools
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import mlx.core as mx

from mlxnode.config.tables import EngineConfig, NodeConfig
from mlxnode.engine.decode.grammar import GrammarCompiler
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.embedding.runner import EmbeddingRunner
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.disk import PrefixStore, fingerprint
from mlxnode.engine.loader import load_generation_model
from mlxnode.engine.loop import Engine
from mlxnode.engine.memory.device import memory_limit
from mlxnode.engine.work import Runner
from mlxnode.errors import ModelError
from mlxnode.kernels import backend
from mlxnode.messages import Fatal, Progress
from mlxnode.models.cache_folder import cache_folder
from mlxnode.models.served import ServedModel


def run(control: Connection, config: NodeConfig, models: list[ServedModel]) -> None:
    """Load ``models`` and serve them until the supervisor says stop."""
    # A terminal sends SIGINT to the whole group; the supervisor stops the engine last.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    engine = Engine(control)
    try:
        engine.serve(_load(models, config.engine, engine))
    except (ModelError, backend.BackendError) as error:
        engine.report(Fatal(str(error)))
    engine.run()


def _load(models: list[ServedModel], config: EngineConfig, engine: Engine) -> dict[str, Runner]:
    """Load each model, once if several ids serve the same weights."""
    kernels = backend.choose(config.kernels)
    budget = MemoryBudget()
    runners: dict[str, Runner] = {}
    loaded: dict[Path, TextRunner] = {}
    for model in models:
        engine.report(Progress(f"loading {model.id} ({model.size_bytes / 1e6:.0f} MB)"))
        try:
            if model.type == "embedding":
                runners[model.id] = EmbeddingRunner.load(model, config, kernels)
                continue
            if model.weights not in loaded:
                loaded[model.weights] = TextRunner(
                    load_generation_model(model),
                    config,
                    budget,
                    functools.partial(GrammarCompiler, model.folder),
                    kernels,
                    _prefix_store(model, config),
                )
            runners[model.id] = loaded[model.weights]
        except ModelError as error:
            raise ModelError(f"api.models.{model.id}: {error}") from error
    budget.total = kv_cache_bytes(config)
    return runners


def _prefix_store(model: ServedModel, config: EngineConfig) -> PrefixStore | None:
    """The model's prefix cache on disk, None if the config has no disk cache."""
    if not config.prefix_cache_disk_gb:
        return None
    return PrefixStore(
        cache_folder() / "prefixes",
        fingerprint(model, config.kv_cache_bits),
        int(config.prefix_cache_disk_gb * 1e9),
    )


def kv_cache_bytes(config: EngineConfig) -> int:
    """The memory for KV caches: the configured size, or half of the memory left by the models.

    The other half is for activations, and for the copy of a batch's cache that is made when
    the cache grows.
    """
    if config.kv_cache_gb is not None:
        return int(config.kv_cache_gb * 1e9)
    return max(memory_limit(config) - mx.get_active_memory(), 0) // 2
