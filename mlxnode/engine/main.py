"""The engine process after its start: load the models, then serve.

``entry`` prepares the process before this file, and with it mlx, is imported.
"""

import functools
import logging
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import mlx.core as mx

from mlxnode.config.tables import EngineConfig, NodeConfig
from mlxnode.engine.decode.grammar import GrammarCompiler
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.embedding.runner import EmbeddingRunner
from mlxnode.engine.figures import FiguresReader
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.disk import PrefixStore, fingerprint
from mlxnode.engine.loader import load_generation_model
from mlxnode.engine.loop import Engine, release_memory
from mlxnode.engine.memory.device import limit_memory, memory_limit
from mlxnode.engine.memory.guard import MemoryGuard, MemoryMeter
from mlxnode.engine.memory.plan import describe, free_after, kv_cache_bytes
from mlxnode.engine.memory.wired import unwire, wire_weights
from mlxnode.engine.work import Runner
from mlxnode.errors import ModelError
from mlxnode.kernels import backend
from mlxnode.messages import Fatal, Progress
from mlxnode.models.cache_folder import cache_folder
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.engine")


def run(control: Connection, config: NodeConfig, models: list[ServedModel]) -> None:
    """Load ``models`` and serve them until the supervisor says stop."""
    # A terminal sends SIGINT to the whole group; the supervisor stops the engine last.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    meter = MemoryMeter()
    limit_memory(config.engine)
    engine = Engine(control)
    try:
        budget = MemoryBudget()
        weights: dict[str, int] = {}
        runners = _load(models, config.engine, engine, budget, weights)
        wired = wire_weights(config.engine)
        budget.total = _kv_cache_bytes(models, config.engine, runners)
        guard = MemoryGuard(memory_limit(config.engine), meter.used, release_memory)
        figures = FiguresReader(config.engine, runners, weights, budget, guard, wired)
        engine.serve(runners, guard, figures)
    except (ModelError, backend.BackendError) as error:
        engine.report(Fatal(str(error)))
    engine.run()
    unwire()


def _load(
    models: list[ServedModel],
    config: EngineConfig,
    engine: Engine,
    budget: MemoryBudget,
    weights: dict[str, int],
) -> dict[str, Runner]:
    """Load each model, once if several ids serve the same weights.

    Fills ``weights`` with the bytes of each model's weights.
    """
    kernels = backend.choose(config.kernels)
    runners: dict[str, Runner] = {}
    loaded: dict[Path, str] = {}  # the first id of each generation model
    for model in models:
        engine.report(Progress(f"loading {model.id} ({model.size_bytes / 1e6:.0f} MB)"))
        before = mx.get_active_memory()
        try:
            if model.type == "embedding":
                runners[model.id] = EmbeddingRunner.load(model, config, kernels)
            elif (first := loaded.setdefault(model.weights, model.id)) == model.id:
                runners[model.id] = TextRunner(
                    load_generation_model(model),
                    config,
                    budget,
                    functools.partial(GrammarCompiler, model.folder),
                    kernels,
                    _prefix_store(model, config),
                )
            else:
                runners[model.id], weights[model.id] = runners[first], weights[first]
                continue
        except ModelError as error:
            raise ModelError(f"api.models.{model.id}: {error}") from error
        weights[model.id] = mx.get_active_memory() - before
    return runners


def _kv_cache_bytes(
    models: list[ServedModel], config: EngineConfig, runners: dict[str, Runner]
) -> int:
    """The memory for KV caches, after each runner has reserved what its passes need."""
    mx.clear_cache()
    weights = mx.get_active_memory()
    distinct = list(dict.fromkeys(runners.values()))
    available = free_after(config, weights) // max(len(distinct), 1)
    activations = 0
    for runner in distinct:
        contexts = [m.context_length for m in models if runners.get(m.id) is runner]
        activations += runner.reserve_activations(available, max(contexts))
    mx.reset_peak_memory()
    total = kv_cache_bytes(config, weights, activations)
    log.info("%s", describe(config, weights, activations, total))
    return total


def _prefix_store(model: ServedModel, config: EngineConfig) -> PrefixStore | None:
    """The model's prefix cache on disk, None if the config has no disk cache."""
    if not config.prefix_cache_disk_gb:
        return None
    return PrefixStore(
        cache_folder() / "prefixes",
        fingerprint(model, config.kv_cache_bits),
        int(config.prefix_cache_disk_gb * 1e9),
    )
