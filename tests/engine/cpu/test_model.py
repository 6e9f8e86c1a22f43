"""A loaded model on the CPU: float32 weights, replaced functions; unchanged on a GPU."""

import sys

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models import activations, base, llama

from mlxnode.engine import cpu
from mlxnode.engine.cpu import attention
from mlxnode.engine.cpu.activations import gelu, swiglu


def is_on_cpu() -> bool:
    return mx.default_device() == mx.Device(mx.cpu)


def test_the_models_are_given_it_on_the_cpu_alone(monkeypatch):
    for module in (llama, base):
        monkeypatch.setattr(module, "scaled_dot_product_attention", attention._batched)
    for module in (llama, activations):
        monkeypatch.setattr(module, "swiglu", sys.modules[swiglu.__module__]._swiglu)
    cpu.install(nn.Module())
    assert (llama.scaled_dot_product_attention is attention.attend) is is_on_cpu()
    assert (llama.swiglu is swiglu) is is_on_cpu()


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = [nn.Linear(64, 64), nn.Embedding(7, 64)]
        self._activation = nn.gelu
        self._attend = mx.fast.scaled_dot_product_attention
        self._other = nn.relu


def test_install_replaces_functions_that_layers_hold():
    model = nn.Sequential(Layer())
    cpu.install(model)
    (layer,) = model.layers
    assert (layer._activation is gelu) is is_on_cpu()
    assert (layer._attend is attention.attend_in_blocks) is is_on_cpu()
    assert layer._other is nn.relu


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_install_makes_weights_dense_and_float32_on_the_cpu(dtype):
    model = nn.Sequential(Layer())
    model.set_dtype(dtype)
    nn.quantize(model, group_size=32, bits=8)
    cpu.install(model)
    arrays = dict(tree_flatten(model.parameters()))
    assert ("layers.0.inner.0.scales" in arrays) is not is_on_cpu()
    assert not is_on_cpu() or {array.dtype for array in arrays.values()} == {mx.float32}
