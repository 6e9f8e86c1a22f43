"""The fit verdicts for the command line, from a process that may import mlx."""

import importlib
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from mlxnode.config.tables import EngineConfig
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel

_PREPARE = "mlxnode.engine.cpu"
_WEIGH = "mlxnode.engine.fit.served"


def weigh(models: Sequence[ServedModel], config: EngineConfig) -> dict[str, Weighed]:
    """The verdict on each model, by id, if those before it are loaded."""
    if not models:
        return {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_weigh, list(models), config).result()
        except BrokenProcessPool:  # the files of a model ended the process
            unknown = Weighed("?", "the process that looks at the files has died", False)
            return {model.id: unknown for model in models}


def _weigh(models: list[ServedModel], config: EngineConfig) -> dict[str, Weighed]:
    # Imported by name: the command line must not import the engine's modules.
    importlib.import_module(_PREPARE).prepare_process()
    return importlib.import_module(_WEIGH).weigh(models, config)
