"""The variants of the kernels on this machine's Metal device, also a paravirtual one."""

import logging

import mlx.core as mx
import pytest

from mlxnode.kernels import backend
from mlxnode.kernels.variants import check_variants

DTYPES = [mx.float32, mx.float16, mx.bfloat16]


@pytest.mark.metal
def test_every_variant_compiles_on_this_device(caplog):
    caplog.set_level(logging.DEBUG, "mlxnode.kernels")
    results = check_variants(DTYPES, DTYPES)
    assert [r for r in results if "Unable to build" in r.error] == []


@pytest.mark.metal
@pytest.mark.parity
def test_every_variant_is_right_on_an_apple_gpu():
    results = check_variants(DTYPES, DTYPES)
    assert [result for result in results if not result.works] == []
    assert backend.choose("auto") is not backend.OPS
