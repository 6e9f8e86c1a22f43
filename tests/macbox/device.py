"""MLX as on a Mac: a GPU, its facts, and custom kernels that run in the emulator.

The computations stay on the CPU backend, which MLX for Linux has alone.
"""

import functools
from collections.abc import Callable
from typing import Any

from macbox.facts import Mac

Patch = Callable[[Any, str, Any], None]


def as_gpu(mac: Mac, patch: Patch = setattr) -> None:
    """Make MLX report the GPU of ``mac``; ``patch`` sets an attribute."""
    import mlx.core as mx
    from metal.emulator import EmulatedKernel

    default = mx.Device(mx.gpu, 0)
    patch(mx, "default_device", lambda: default)
    patch(mx, "is_available", lambda device: True)
    patch(mx, "device_info", lambda *_: dict(mac.device_info))
    patch(mx.metal, "is_available", lambda: True)
    # The faults of a kernel are the tests of the kernels; here it only has to be quick.
    unchecked = functools.partial(EmulatedKernel, options={"checked": False})
    patch(mx.fast, "metal_kernel", unchecked)
