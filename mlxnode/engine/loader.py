"""Loads models that generate text: MLX and Hugging Face folders, and GGUF files."""

from collections.abc import Generator

import mlx.core as mx
from mlx import nn
from mlx_lm.utils import load_model

from mlxnode.engine import cpu
from mlxnode.engine.gguf.model import open_gguf
from mlxnode.engine.gguf.model import open_in_pieces as open_gguf_in_pieces
from mlxnode.errors import ModelError
from mlxnode.models.served import ServedModel


def load_generation_model(served: ServedModel) -> nn.Module:
    """Load the model of ``served`` into memory.

    Weights keep the type and quantization of the file, except on the CPU backend.

    Raises:
        ModelError: the files cannot be read, or are not supported.
    """
    model = open_generation_model(served)
    mx.eval(model.parameters())
    return model


def open_in_pieces(served: ServedModel) -> Generator[None, None, nn.Module]:
    """As ``open_generation_model``; yields after each tensor of a GGUF file.

    Raises:
        ModelError: the files cannot be read, or are not supported.
    """
    if served.weights.suffix != ".gguf":
        return open_generation_model(served)
    try:
        model = yield from open_gguf_in_pieces(served.folder, served.weights)
    except ModelError:
        raise
    except Exception as error:  # of any type: the files are foreign data
        raise ModelError(f"cannot load {served.weights}: {error}") from error
    cpu.install(model)
    return model


def open_generation_model(served: ServedModel, *, is_read: bool = True) -> nn.Module:
    """The model of ``served``, whose weights are not evaluated.

    ``is_read`` is False if the weights of a GGUF file are not needed, but their shapes.

    Raises:
        ModelError: the files cannot be read, or are not supported.
    """
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
    cpu.install(model)
    return model
