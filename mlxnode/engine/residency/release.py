"""Gives the memory of a runner back."""

import mlx.core as mx

from mlxnode.engine import cpu, mirror
from mlxnode.engine.lanes import Lanes
from mlxnode.process import garbage


def release_memory() -> None:
    """Give freed memory back to the system, and let other ranks release theirs."""
    mirror.flush()
    cpu.release_memory()
    mx.clear_cache()


def end_runner(runner: Lanes) -> None:
    """Close ``runner``, which the caller has forgotten but for its argument.

    ``collect`` follows, once no name is left.
    """
    mx.synchronize()  # its last step may run still
    runner.close()


def collect() -> None:
    """Free what nobody refers to any more: models are full of circles."""
    garbage.collect_frozen()
    release_memory()
