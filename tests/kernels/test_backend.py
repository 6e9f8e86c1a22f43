"""The choice of the kernels, also on machines where Metal does not work."""

import mlx.core as mx
import pytest

from mlxnode.kernels import backend


@pytest.fixture
def with_metal(monkeypatch):
    monkeypatch.setattr(backend, "_has_metal", lambda: True)


@pytest.mark.parametrize("name", ["auto", "metal"])
def test_choose_takes_the_metal_kernels_where_there_is_a_device(with_metal, name):
    kernels = backend.choose(name)
    assert kernels is not backend.OPS
    assert kernels.warm is not None


def test_choose_ops_takes_the_operations(with_metal):
    assert backend.choose("ops") is backend.OPS


@pytest.mark.skipif(mx.metal.is_available(), reason="there is a Metal device")
def test_choose_without_metal():
    assert backend.choose("auto") is backend.OPS
    with pytest.raises(backend.BackendError, match=r"\[engine\] kernels"):
        backend.choose("metal")
