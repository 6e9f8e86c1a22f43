"""The Metal device of this machine, and which tests it can run."""

import functools
import sys

# The device of a virtual machine, as those of GitHub: it computes, but is not an Apple GPU.
PARAVIRTUAL = "Apple Paravirtual device"


@functools.cache
def metal_device() -> str:
    """The name of the Metal device, empty if there is none."""
    if sys.platform != "darwin":  # without the import of mlx, which some tests look for
        return ""
    import mlx.core as mx

    return str(mx.device_info()["device_name"]) if mx.metal.is_available() else ""


def why_not_on_metal(is_parity: bool) -> str:
    """Why a test marked ``metal``, and ``parity`` if so, cannot run here; empty if it can."""
    name = metal_device()
    if not name:
        return "no Metal device"
    if is_parity and name == PARAVIRTUAL:
        return f"{name}: results are compared strictly on Apple GPUs only"
    return ""
