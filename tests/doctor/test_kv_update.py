"""The measurement of KV updates tells a copy of the cache from a write in place."""

import functools
from collections.abc import Iterator

import mlx.core as mx
import pytest

from mlxnode.doctor import kv_update
from mlxnode.doctor.kv_update import WRITES, Write, concatenate, measure
from mlxnode.engine.kvcache.slots import Slots

IN_PLACE = [write for write in WRITES if write is not concatenate]


@pytest.fixture
def cpu() -> Iterator[None]:
    with mx.stream(mx.cpu):
        yield


def copied(write: Write, launch: str) -> float:
    @functools.wraps(write)
    def late(cache: mx.array, new: mx.array, slots: Slots) -> mx.array:
        mx.async_eval(mx.linalg.svd(mx.ones((160, 160)), compute_uv=False))
        return write(cache, new, slots)

    # The device lags behind the host, as a GPU does. One layer: a step is shorter than what
    # the CPU backend keeps in flight.
    return measure(late, launch, length=2000, rows=2, layers=1, steps=4).copied


@pytest.mark.slow
@pytest.mark.usefixtures("cpu")
@pytest.mark.parametrize("write", IN_PLACE, ids=lambda write: write.__name__)
def test_measure_shows_which_launch_makes_mlx_copy_the_cache(write):
    assert copied(write, "waited") < 0.2
    assert copied(write, "halves") < 0.2
    assert copied(write, "pipelined") > 0.9


@pytest.mark.slow
@pytest.mark.usefixtures("cpu")
def test_measure_shows_a_write_that_always_copies():
    assert all(copied(concatenate, launch) > 0.9 for launch in kv_update.LAUNCHES)


@pytest.mark.metal
@pytest.mark.parametrize("length", kv_update.LENGTHS)
def test_halves_copy_no_cache_on_a_gpu(length):
    for measurement in kv_update.check_slots(length):
        if measurement.launch == "halves":
            assert measurement.copied < 0.2, measurement
