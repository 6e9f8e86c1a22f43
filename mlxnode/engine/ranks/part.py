"""Loads the part of a model that belongs to a rank other than 0."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
from mlx import nn

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode import projection
from mlxnode.engine.fit.served import needs_of_served
from mlxnode.engine.loader import open_generation_model
from mlxnode.engine.memory.plan import free_after
from mlxnode.errors import ModelError
from mlxnode.messages.ranks import LoadPart
from mlxnode.models.fingerprints import differences, fingerprints
from mlxnode.models.fit import SMALL_CONTEXT, MemoryNeeds
from mlxnode.models.gguf.folder import model_folder
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.rank")


@dataclass(frozen=True)
class NodePart:
    """The part of a model that is in the memory of this rank."""

    model: nn.Module
    needs: MemoryNeeds
    kv_budget: int  # bytes that are left for KV caches
    kv_token: int  # bytes of one token in a KV cache


def load_part(order: LoadPart, settings: EngineConfig, weights: int) -> NodePart:
    """The part of this rank of the model in ``order``, beside ``weights`` bytes of others.

    Raises:
        ModelError: it is not on this machine, not the same, or does not fit.
    """
    served = found_here(order)
    needs = needs_of_served(served, settings)
    context = min(SMALL_CONTEXT, served.context_length)
    free = free_after(settings, weights)
    if (planned := needs.planned(1, context, free)) > free:
        raise ModelError(
            f"its part needs {planned / 1e9:.2f} GB, {free / 1e9:.2f} GB are free there"
        )
    model = open_generation_model(served)
    mx.eval(model.parameters())
    projection.prepare(model)
    passes = max(activations.prefill for activations in needs.activations)
    log.info("a part of %s is loaded: %.2f GB", served.id, needs.weights / 1e9)
    return NodePart(
        model,
        needs,
        max(free - needs.weights - passes, 0),
        max(needs.kv.of(context) // context, 1),
    )


def found_here(order: LoadPart) -> ServedModel:
    """The model of ``order`` with its paths on this machine.

    They are the same as on rank 0, or below the home folder of this user.

    Raises:
        ModelError: it is not here, or its files are others.
    """
    served = replace(order.model, strategy=order.strategy)
    weights = _path_here(served.weights, order.home)
    if weights is None:
        raise ModelError(f"there is no {served.weights}; copy the model to the same path")
    if differing := differences(order.files, fingerprints(weights)):
        raise ModelError(f"{weights}: not the files of rank 0: {', '.join(differing)}")
    folder = model_folder(weights) if weights.suffix == ".gguf" else weights
    return replace(served, weights=weights, folder=folder)


def _path_here(path: Path, home: str) -> Path | None:
    candidates = [path]
    if path.is_relative_to(home):
        candidates.append(Path.home() / path.relative_to(home))
    return next((each for each in candidates if os.path.exists(each)), None)
