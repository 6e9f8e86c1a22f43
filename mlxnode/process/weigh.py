"""Verdicts on models for the command line, from processes that may import mlx."""

import importlib
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mlxnode.config.tables import EngineConfig
from mlxnode.errors import NodeError
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel

_PREPARE = "mlxnode.engine.cpu"
_WEIGH = "mlxnode.engine.fit.served"
_LOAD = "mlxnode.engine.loading"
_REGISTRY = "mlxnode.server.registry"
_TOKENIZERS = "mlxnode.server.prompt.tokenizers"
_DESCRIBE = "mlxnode.server.notation.describe"

Result = TypeVar("Result")


def weigh(models: Sequence[ServedModel], config: EngineConfig) -> dict[str, Weighed]:
    """The verdict on each model, by id, if the preloaded ones before it are loaded.

    A model that is loaded when it is asked for is judged as if it were alone.
    """
    found = _in_child(_weigh, models, config)
    if found is None:  # the files of a model ended the process
        unknown = Weighed("?", "the process that looks at the files has died", False)
        return {model.id: unknown for model in models}
    return found


def load_once(models: Sequence[ServedModel], config: EngineConfig) -> dict[str, str]:
    """The models that a node could not serve, each with the reason, found as a node does.

    One process loads them as an engine, and another one as a worker; both end afterwards.
    """
    loaded = _in_child(_load, models, config)
    if loaded is None:
        return {model.id: "the process that loads the models has died" for model in models}
    opened = _in_child(_open, models, config)
    if opened is None:
        return {model.id: "the process that opens the tokenizers has died" for model in models}
    return opened | loaded


def notations(models: Sequence[ServedModel], config: EngineConfig) -> dict[str, list[str]]:
    """Lines that say how each chat model writes its answers, by id."""
    chat = [model for model in models if model.type == "chat"]
    return _in_child(_notations, chat, config) or {}


def _in_child(
    function: Callable[[list[ServedModel], EngineConfig], dict[str, Result]],
    models: Sequence[ServedModel],
    config: EngineConfig,
) -> dict[str, Result] | None:
    """The result of ``function`` in a process of its own; None if that process dies."""
    if not models:
        return {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, list(models), config).result()
        except BrokenProcessPool:
            return None


# Imported by name: the command line must not import the engine's modules, nor the worker's.


def _weigh(models: list[ServedModel], config: EngineConfig) -> dict[str, Weighed]:
    importlib.import_module(_PREPARE).prepare_process()
    weigh = importlib.import_module(_WEIGH).weigh
    found = weigh([model for model in models if model.preload], config)
    for model in models:
        if not model.preload:
            found |= weigh([model], config)
    return found


def _load(models: list[ServedModel], config: EngineConfig) -> dict[str, str]:
    importlib.import_module(_PREPARE).prepare_process()
    return importlib.import_module(_LOAD).load_once(models, config)


def _open(models: list[ServedModel], _: EngineConfig) -> dict[str, str]:
    return importlib.import_module(_REGISTRY).Registry(models).failed


def _notations(models: list[ServedModel], _: EngineConfig) -> dict[str, list[str]]:
    tokenizers = importlib.import_module(_TOKENIZERS)
    describe = importlib.import_module(_DESCRIBE).describe
    lines = {}
    for model in models:
        try:
            template = tokenizers.TextTokenizer(model.folder).chat_template
        except NodeError as error:  # serving fails as well, and says so
            lines[model.id] = [str(error)]
        else:
            lines[model.id] = describe(template.notation)
    return lines
