"""The choice of the kernels, also on machines where Metal does not work."""

import mlx.core as mx
import pytest

from mlxnode.kernels import backend


@pytest.fixture
def with_metal(emulated, monkeypatch):
    monkeypatch.setattr(backend, "_has_metal", lambda: True)


@pytest.fixture
def with_broken_metal(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such function")

    monkeypatch.setattr(backend, "_has_metal", lambda: True)
    monkeypatch.setattr(backend, "sample_metal", fail)


def test_choose_takes_the_metal_kernels_where_they_work(with_metal):
    assert backend.choose("auto") is backend.METAL
    assert backend.choose("metal") is backend.METAL


def test_choose_ops_takes_the_operations(with_metal):
    assert backend.choose("ops") is backend.OPS


def test_choose_auto_goes_on_with_operations_where_kernels_fail(with_broken_metal, caplog):
    assert backend.choose("auto") is backend.OPS
    assert "no such function" in caplog.text


def test_choose_metal_refuses_where_kernels_fail(with_broken_metal):
    with pytest.raises(backend.BackendError, match="no such function"):
        backend.choose("metal")


@pytest.mark.parametrize("kernel", ["sample_metal", "pool_metal"])
def test_choose_notices_kernels_that_give_wrong_answers(with_metal, monkeypatch, kernel):
    right = getattr(backend, kernel)

    def wrong(*arguments, **options):
        result = right(*arguments, **options)
        return result * 2 if kernel == "pool_metal" else result._replace(tokens=result[0] + 1)

    monkeypatch.setattr(backend, kernel, wrong)
    assert backend.choose("auto") is backend.OPS


@pytest.mark.skipif(mx.metal.is_available(), reason="there is a Metal device")
def test_choose_without_metal():
    assert backend.choose("auto") is backend.OPS
    with pytest.raises(backend.BackendError, match=r"\[engine\] kernels"):
        backend.choose("metal")


@pytest.mark.metal
def test_choose_on_a_gpu_takes_the_metal_kernels():
    assert backend.choose("metal") is backend.METAL
