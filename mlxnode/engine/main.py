"""The engine process: loads the models, then serves until the supervisor says stop."""

import functools
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from mlxnode.config.tables import EngineConfig, NodeConfig
from mlxnode.engine.cpu import malloc
from mlxnode.engine.cpu.blas import preload_blas
from mlxnode.errors import ModelError
from mlxnode.messages import Fatal, Progress
from mlxnode.models.cache_folder import cache_folder
from mlxnode.models.served import ServedModel
from mlxnode.process.logging import set_up_logging

preload_blas()  # has to come before the first import of mlx

import mlx.core as mx  # noqa: E402

from mlxnode.engine.decode.grammar import GrammarCompiler  # noqa: E402
from mlxnode.engine.decode.runner import TextRunner  # noqa: E402
from mlxnode.engine.embedding.runner import EmbeddingRunner  # noqa: E402
from mlxnode.engine.kvcache.budget import MemoryBudget  # noqa: E402
from mlxnode.engine.kvcache.disk import PrefixStore, fingerprint  # noqa: E402
from mlxnode.engine.loader import load_generation_model  # noqa: E402
from mlxnode.engine.loop import Engine  # noqa: E402
from mlxnode.engine.work import Runner  # noqa: E402
from mlxnode.kernels import backend  # noqa: E402


def run_engine(control: Connection, config: NodeConfig, models: list[ServedModel]) -> None:
    """The entry point of the process."""
    # A terminal sends SIGINT to the whole group; the supervisor stops the engine last.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_up_logging(config.server.log_level)
    malloc.keep_arrays()
    engine = Engine(control)
    try:
        engine.serve(_load(models, config.engine, engine))
    except (ModelError, backend.BackendError) as error:
        engine.report(Fatal(str(error)))
    engine.run()


def _load(models: list[ServedModel], config: EngineConfig, engine: Engine) -> dict[str, Runner]:
    """Load each model once, also where several ids serve the same weights."""
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
    """Where the model's texts are kept on disk, if they shall be."""
    if not config.prefix_cache_disk_gb:
        return None
    return PrefixStore(
        cache_folder() / "prefixes",
        fingerprint(model, config.kv_cache_bits),
        int(config.prefix_cache_disk_gb * 1e9),
    )


def kv_cache_bytes(config: EngineConfig) -> int:
    """The memory for KV caches: as configured, or half of what the loaded models leave.

    The other half is for activations, and for the copy of a batch's cache that is made when
    it grows.
    """
    if config.kv_cache_gb is not None:
        return int(config.kv_cache_gb * 1e9)
    usable = mx.device_info().get("max_recommended_working_set_size")
    if usable is None:
        usable = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(int(usable) - mx.get_active_memory(), 0) // 2
