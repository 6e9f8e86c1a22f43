"""Changes to a loaded model: float32 weights, and faster functions."""

import sys
from collections.abc import Callable

import mlx.core as mx
from mlx import nn
from mlx_lm.models import activations, base
from mlx_lm.models import gated_delta as delta
from mlx_lm.utils import dequantize_model

from mlxnode.engine.cpu import recurrences
from mlxnode.engine.cpu.activations import gelu, swiglu
from mlxnode.engine.cpu.attention import attend, attend_in_blocks
from mlxnode.engine.cpu.gated_delta import gated_delta
from mlxnode.engine.cpu.wkv7 import wkv7

# Function -> replacement with the same results.
REPLACEMENTS: list[tuple[Callable, Callable]] = [
    (base.scaled_dot_product_attention, attend),
    (mx.fast.scaled_dot_product_attention, attend_in_blocks),
    (activations.swiglu, swiglu),
    (nn.gelu, gelu),
    (delta.gated_delta_ops, gated_delta),
]

# The same by name, for modules that are imported only if a model needs them: module of
# mlx_lm.models, a class or "", function.
NAMED_REPLACEMENTS: list[tuple[str, str, str, Callable]] = [
    ("recurrent_gemma", "", "rnn_scan", recurrences.rnn_scan),
    ("bailing_moe_linear", "", "recurrent_gla", recurrences.recurrent_gla),
    ("rwkv7", "Rwkv7TimeMixing", "_wkv7", wkv7),
    ("jamba", "JambaMambaMixer", "ssm_step", recurrences.jamba_ssm_step),
    ("mamba", "MambaBlock", "_process_sequence", recurrences.mamba_process_sequence),
]


def widen_weights(model: nn.Module) -> None:
    """Make all weights float32 and dense.

    Half-precision and quantized products are many times slower on the CPU. Widening comes
    first: scales in half precision would round the weights a second time.
    """
    model.set_dtype(mx.float32)
    dequantize_model(model)


def replace_functions(model: nn.Module) -> None:
    """Replace slow functions where models call them.

    The modules of mlx-lm call functions by global names, the encoders of this project by
    attributes of their layers.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_lm.models."):
            _replace_in(module)
    for name, owner, function, replacement in NAMED_REPLACEMENTS:
        module = sys.modules.get(f"mlx_lm.models.{name}")
        if module is not None:
            setattr(getattr(module, owner) if owner else module, function, replacement)
    for layer in model.modules():
        _replace_in(layer)


def _replace_in(owner: object) -> None:
    for name, value in list(vars(owner).items()):
        for function, replacement in REPLACEMENTS:
            if value is function:
                setattr(owner, name, replacement)
