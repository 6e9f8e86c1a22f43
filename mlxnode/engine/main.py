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
from mlxnode.engine.fit.served import find_verdict
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.disk import PrefixStore, fingerprint
from mlxnode.engine.loader import load_generation_model
from mlxnode.engine.loop import Engine
from mlxnode.engine.memory.device import memory_limit
from mlxnode.engine.work import Runner
from mlxnode.errors import ModelError, reason_of
from mlxnode.kernels import backend
from mlxnode.messages import Fatal, Progress
from mlxnode.models.cache_folder import cache_folder
from mlxnode.models.complete import check_complete
from mlxnode.models.files import ModelFiles
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.engine")


def run(control: Connection, config: NodeConfig, models: list[ServedModel]) -> None:
    """Load ``models`` and serve them until the supervisor says stop."""
    # A terminal sends SIGINT to the whole group; the supervisor stops the engine last.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    engine = Engine(control)
    try:
        engine.serve(*_load(models, config.engine, engine))
    except backend.BackendError as error:
        engine.report(Fatal(str(error)))
    engine.run()


def _load(
    models: list[ServedModel], config: EngineConfig, engine: Engine
) -> tuple[dict[str, Runner], dict[str, str]]:
    """The runners of the models that can be served, and why the others cannot, by id.

    Ids that serve the same weights share a runner.
    """
    kernels = backend.choose(config.kernels)
    budget = MemoryBudget()
    runners: dict[str, Runner] = {}
    failed: dict[str, str] = {}
    loaded: dict[Path, TextRunner] = {}
    for model in models:
        try:
            if model.weights not in loaded:
                _check_fit(model, config, engine)
            engine.report(Progress(f"loading {model.id} ({model.size_bytes / 1e6:.0f} MB)"))
            if model.type == "embedding":
                runners[model.id] = EmbeddingRunner.load(model, config, kernels)
                continue
            if model.weights not in loaded:
                loaded[model.weights] = _load_text(model, config, budget, kernels)
            runners[model.id] = loaded[model.weights]
        except Exception as error:  # of any type: mlx-lm raises whatever its models raise
            log.debug("%s cannot be loaded", model.id, exc_info=error)
            failed[model.id] = reason_of(error)
            engine.report(Progress(f"{model.id} failed: {failed[model.id]}"))
            mx.clear_cache()
    budget.total = kv_cache_bytes(config)
    return runners, failed


def _check_fit(model: ServedModel, config: EngineConfig, engine: Engine) -> None:
    """Say whether ``model`` fits beside the models that are loaded.

    Raises:
        ModelError: it does not.
    """
    check_complete(ModelFiles(model.folder, model.weights))
    free = memory_limit(config) - mx.get_active_memory()
    verdict = find_verdict(model, config, free)
    if isinstance(verdict, str):  # a graph that cannot be traced; the model itself may work
        log.info("%s: it is not known whether it fits: %s", model.id, verdict)
        return
    if not verdict.fits:
        raise ModelError(verdict.text)
    engine.report(Progress(f"{model.id} {verdict.text}"))


def _load_text(
    model: ServedModel, config: EngineConfig, budget: MemoryBudget, kernels: backend.Kernels
) -> TextRunner:
    return TextRunner(
        load_generation_model(model),
        config,
        budget,
        functools.partial(GrammarCompiler, model.folder),
        kernels,
        _prefix_store(model, config),
    )


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
