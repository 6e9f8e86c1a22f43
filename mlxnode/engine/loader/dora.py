"""DoRA for generation: what does not depend on the input is computed once.

mlx-lm's layer is made for training. In each pass it dequantizes the whole weight, adds the
adapter and takes the norms of the rows again, which costs more than the pass itself.
Source: Liu et al., DoRA: Weight-Decomposed Low-Rank Adaptation, https://arxiv.org/abs/2402.09353.
"""

import mlx.core as mx
from mlx import nn
from mlx_lm.tuner.dora import DoRALinear


class FixedDoRA(nn.Module):
    """The function of a ``DoRALinear``, whose weights do not change any more.

    Shapes:
        x [..., I] -> [..., O]; factor and shift [O]
    """

    def __init__(self, layer: DoRALinear):
        super().__init__()
        self.linear = layer.linear  # quantized or not, with the arrays of the base
        self.scale = layer.scale
        self.lora_a = layer.lora_a  # [I, R]
        self.lora_b = layer.lora_b  # [R, O]
        adapted = layer._dequantized_weight() + (layer.scale * layer.lora_b.T) @ layer.lora_a.T
        self.factor = layer.m / mx.linalg.norm(adapted, axis=1)
        if "bias" in self.linear:  # which has no part in the product of factor and output
            self.shift = self.linear.bias * (1 - self.factor)

    def __call__(self, x: mx.array) -> mx.array:
        added = self.scale * ((x @ self.lora_a) @ self.lora_b)
        y = self.factor.astype(x.dtype) * (self.linear(x) + added.astype(x.dtype))
        return y + self.shift.astype(x.dtype) if "shift" in self else y


def fix_dora(model: nn.Module) -> list[tuple[str, FixedDoRA]]:
    """The replacements of the DoRA layers of ``model``, by path. Nothing is evaluated."""
    return [
        (path, FixedDoRA(layer))
        for path, layer in model.named_modules()
        if isinstance(layer, DoRALinear)
    ]
