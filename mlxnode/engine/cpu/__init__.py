"""The one door for all that only MLX's CPU backend needs. Nothing else knows the device.

``prepare_process`` runs before mlx is imported, ``install`` after a model is loaded, and
``release_memory`` while the engine is idle. So this file imports mlx inside functions only.
The other files may import mlx_lm, ``kvcache`` and the kernels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlxnode.engine.cpu import blas, malloc, scratch

if TYPE_CHECKING:
    from mlx import nn


def prepare_process() -> None:
    """Load a fast BLAS, configure malloc and find a folder for compiled code.

    Call this before the first import of mlx.
    """
    scratch.name_scratch_folder()
    blas.preload_blas()
    malloc.keep_freed_arrays()


def is_used() -> bool:
    """True if models run on the CPU."""
    import mlx.core as mx

    return mx.default_device() == mx.cpu


def install(model: "nn.Module") -> None:
    """Change a loaded model, in place, to what the CPU computes fastest; a GPU needs nothing.

    Weights become float32, and functions that MLX computes slowly are replaced. Weights that
    are not evaluated yet stay so: the caller evaluates them.
    """
    if not is_used():
        return
    from mlxnode.engine.cpu.model import replace_functions, widen_weights

    widen_weights(model)
    replace_functions(model)


@contextmanager
def traced() -> Iterator[None]:
    """Inside, models are traced and not computed: what repeats is left out."""
    from mlxnode.engine.cpu.abridged import abridged
    from mlxnode.engine.cpu.attention import forget_masks

    try:
        with abridged():
            yield
    finally:
        forget_masks()


def release_memory() -> None:
    """Forget what is kept between passes, and return freed memory to the system."""
    if is_used():
        from mlxnode.engine.cpu.attention import forget_masks

        forget_masks()
    malloc.release()
