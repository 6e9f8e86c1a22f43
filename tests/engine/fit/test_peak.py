"""The lifetimes of buffers, on graphs whose peak is known."""

import mlx.core as mx

from mlxnode.engine.fit.graph import trace
from mlxnode.engine.fit.peak import peak_bytes

UNIT = 4000  # bytes of an array of these tests
X = mx.zeros(1000)


def peak(function, *arrays, held: int = 0, lead: int = 0) -> float:
    """The peak in units; the first ``held`` inputs exist until the end."""
    graph = trace(lambda *inputs: [function(*inputs)], arrays)
    return peak_bytes(graph, graph.inputs[:held], lead) / UNIT


def test_peak_an_operation_takes_the_buffer_of_an_input_that_nobody_else_needs():
    assert peak(mx.exp, X) == 1
    assert peak(mx.exp, X, held=1) == 2
    assert peak(lambda x: mx.exp(x) + x, X) == 2


def test_peak_a_view_has_no_buffer():
    assert peak(lambda x: x.reshape(10, 100).T, X) == 1
    assert peak(lambda x: mx.broadcast_to(x, (50, 1000)), X) == 1


def test_peak_elements_out_of_order_are_copied():
    assert peak(lambda x: x.reshape(10, 100).T.reshape(1000), X) == 2


def test_peak_counts_both_arrays_of_a_growth():
    assert peak(lambda x: mx.concatenate([x, mx.zeros(1000)]), X) >= 3


def test_peak_a_device_that_lags_frees_late():
    def chain(x: mx.array) -> mx.array:
        for _ in range(5):
            x = mx.concatenate([x[:500], x[500:]])
        return x

    assert peak(chain, X) == 2
    assert peak(chain, X, lead=1000) == 6


def test_trace_evaluates_nothing():
    unread = mx.zeros((10**6, 10**6))  # more than any machine has
    assert peak(lambda x: x.sum(), unread) == 10**12 * 4 / UNIT + 4 / UNIT
