"""Loads models that generate text: MLX and Hugging Face folders, and GGUF files.

``quantize`` makes the weights smaller while they are loaded, ``bases`` shares them between
ids, ``split`` spreads them over ranks, ``adapter`` puts a LoRA or DoRA adapter on them
(``dora``: for generation). May import ``config``, ``cpu``, ``gguf``, ``weights``, errors and
models.
"""

from collections.abc import Generator

import mlx.core as mx
from mlx import nn
from mlx_lm.utils import load_model

from mlxnode.engine import cpu
from mlxnode.engine.gguf.model import open_gguf
from mlxnode.engine.gguf.model import open_in_pieces as open_gguf_in_pieces
from mlxnode.engine.loader.adapter import apply_adapter
from mlxnode.engine.loader.bases import BaseWeights
from mlxnode.engine.loader.quantize import evaluate_in_turn, quantize_weights, quantized_paths
from mlxnode.engine.loader.split import strategy_of, take_part
from mlxnode.errors import ModelError
from mlxnode.models.served import ServedModel


def load_generation_model(
    served: ServedModel, *, bases: BaseWeights | None = None
) -> nn.Module:
    """Load the model of ``served`` into memory.

    Weights keep the type and quantization of the file, except on the CPU backend and with
    ``quantize``. Those that ``bases`` knows already are not loaded again.

    Raises:
        ModelError: the files cannot be read, or are not supported.
    """
    model = open_generation_model(served, bases=bases)
    if served.quantize or served.adapter:  # a layer of DoRA needs its weight without codes
        evaluate_in_turn(model.parameters())
    mx.eval(model.parameters())
    return model


def open_in_pieces(served: ServedModel, bases: BaseWeights) -> Generator[None, None, nn.Module]:
    """As ``open_generation_model``; yields after each tensor of a GGUF file.

    Raises:
        ModelError: the files cannot be read, or are not supported.
    """
    if served.weights.suffix != ".gguf" or bases.loaded_bytes(served):
        return open_generation_model(served, bases=bases)
    try:
        model = yield from open_gguf_in_pieces(served.folder, served.weights)
    except ModelError:
        raise
    except Exception as error:  # of any type: the files are foreign data
        raise ModelError(f"cannot load {served.weights}: {error}") from error
    return _prepare(model, served, bases)


def open_generation_model(
    served: ServedModel, *, is_read: bool = True, bases: BaseWeights | None = None
) -> nn.Module:
    """The model of ``served``, whose weights are not evaluated.

    ``is_read`` is False if the weights of a GGUF file are not needed, but their shapes. The
    arrays below the adapter are those of ``bases``, where it knows them.

    Raises:
        ModelError: the files cannot be read, or are not supported.
    """
    is_read = is_read and not (bases and bases.loaded_bytes(served))
    try:
        if served.weights.suffix == ".gguf":
            model = open_gguf(served.folder, served.weights if is_read else None)
        else:
            model, _ = load_model(served.weights, lazy=True)
    except ModelError:
        raise
    except Exception as error:  # of any type: the files are foreign data
        raise ModelError(f"cannot load {served.weights}: {error}") from error
    except SystemExit as error:  # a module of mlx-lm that misses a package
        raise ModelError(
            f"mlx-lm needs a package for {served.architecture} that is not installed"
        ) from error
    return _prepare(model, served, bases)


def _prepare(model: nn.Module, served: ServedModel, bases: BaseWeights | None) -> nn.Module:
    """Quantize the opened weights, adapt them to the backend, share them, add the adapter."""
    if served.quantize:
        quantize_weights(model, served.quantize)
    quantized = quantized_paths(model)
    cpu.install(model)
    strategy = strategy_of(served, model)
    take_part(model, strategy)
    if bases is not None and strategy == "none":  # the base would keep the parts of others
        bases.share(served, model)
    if served.adapter is not None:
        apply_adapter(model, served.adapter, quantized)
    return model
