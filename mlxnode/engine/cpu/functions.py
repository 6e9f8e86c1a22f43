"""What MLX computes slowly on the CPU, computed otherwise there.

mlx-lm's models call these functions by the names that their modules imported them under;
``install`` puts ours in their place.
"""

import sys

import mlx.core as mx
from mlx_lm.models import activations

from mlxnode.engine.cpu.attention import attend
from mlxnode.kernels.exp2 import exp2
from mlxnode.kernels.sample import LOG2_E

_swiglu = activations.swiglu
_SMALL = 1 << 13  # numbers; for fewer, so many operations are no faster than one slow one


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """``mlx_lm.models.activations.swiglu``: the SiLU of ``gate``, times ``x``."""
    if gate.dtype != mx.float32 or gate.size < _SMALL:
        return _swiglu(gate, x)
    return gate * x / (1 + exp2(mx.minimum(gate * -LOG2_E, 126.0)))


_OURS = {"scaled_dot_product_attention": attend, "swiglu": swiglu}


def install() -> None:
    """Let the models of mlx-lm that are imported use them where MLX runs on the CPU."""
    if mx.default_device() != mx.Device(mx.cpu):
        return
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("mlx_lm.models."):
            for name in vars(module).keys() & _OURS.keys():
                setattr(module, name, _OURS[name])
