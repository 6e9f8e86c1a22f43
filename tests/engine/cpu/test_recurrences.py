"""The recurrences of models give the results of mlx-lm's loops over the tokens."""

import importlib
import itertools

import mlx.core as mx
import numpy as np
import pytest
from support.architectures import build, build_plain

from mlxnode.engine.cpu import recurrences
from mlxnode.engine.cpu.model import NAMED_REPLACEMENTS
from mlxnode.engine.cpu.wkv7 import wkv7
from mlxnode.engine.decode import projection
from mlxnode.engine.fit import needs
from mlxnode.engine.fit.graph import Graph, trace


def owner_of(name: str, owner: str) -> object:
    module = importlib.import_module(f"mlx_lm.models.{name}")
    return getattr(module, owner) if owner else module


# mlx-lm's own functions, before any test installs the replacements.
LOOPS = {
    name: getattr(owner_of(name, owner), function)
    for name, owner, function, _ in NAMED_REPLACEMENTS
}


@pytest.fixture(params=NAMED_REPLACEMENTS, ids=lambda case: case[0])
def case(request, monkeypatch):
    """The name of a model, a function that counts and installs, and the calls so far."""
    name, owner, function, replacement = request.param
    calls = []

    def use(used):
        def counted(*arguments, **named):
            calls.append(used)
            return used(*arguments, **named)

        monkeypatch.setattr(owner_of(name, owner), function, counted)

    return name, use, replacement, calls


def test_models_say_what_they_say_with_the_loops(case):
    name, use, replacement, calls = case
    tokens = mx.array(np.random.default_rng(3).integers(0, 288, (2, 150)))
    model, plain = build(name), build_plain(name)
    use(replacement)
    cache = model.make_cache()
    borders = (0, 70, 148, 149, 150)
    parts = [model(tokens[:, a:b], cache=cache) for a, b in itertools.pairwise(borders)]
    got = mx.concatenate(parts, axis=1)
    use(LOOPS[name])
    cache = plain.make_cache()
    expected = plain(tokens, cache=cache)
    assert set(calls) == {replacement, LOOPS[name]}
    tolerance = 1e-4 * float(mx.abs(expected).max())
    np.testing.assert_allclose(np.array(got), np.array(expected), rtol=1e-3, atol=tolerance)
    assert mx.array_equal(got.argmax(-1), expected.argmax(-1))


def test_traces_have_few_operations(case, monkeypatch):
    name, use, replacement, calls = case
    model = build(name)
    use(replacement)
    projection.prepare(model)
    graphs = []

    def kept(*arguments) -> Graph:
        graphs.append(trace(*arguments))
        return graphs[-1]

    monkeypatch.setattr(needs, "trace", kept)

    def operations(length: int) -> int:
        list(needs.Tracer(model, None, length).prefill_peak(length))  # all its pieces
        return len(graphs[-1].operations)

    few, many = operations(1024), operations(4096)
    assert replacement in calls
    assert many < few + 1000 < 10_000


def test_selective_scan_at_every_length():
    random = np.random.default_rng(0)

    def normal(*shape: int) -> mx.array:
        return mx.array(random.normal(size=shape).astype(np.float32))

    D, N = 3000, 16  # a block has 5 tokens
    A, state = -mx.exp(normal(D, N)), normal(1, D, N)
    for length in (1, 2, 4, 5, 6, 50):
        x, delta = normal(1, length, D), mx.abs(normal(1, length, D))
        B, C = normal(1, length, N), normal(1, length, N)
        got, last = recurrences.selective_scan(x, delta, A, B, C, state)
        h, ys = state, []
        for t in range(length):
            step = delta[:, t, :, None]
            h = mx.exp(step * A) * h + step * x[:, t, :, None] * B[:, t, None, :]
            ys.append((h * C[:, t, None, :]).sum(-1))
        np.testing.assert_allclose(np.array(got), np.array(mx.stack(ys, 1)), 1e-4, 1e-4)
        np.testing.assert_allclose(np.array(last), np.array(h), 1e-4, 1e-5)


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 64, 100, 300])
@pytest.mark.parametrize("shift", [-8, 0, 50], ids=["weak", "moderate", "strong"])
def test_wkv7_at_every_length_and_decay(length, shift):
    random = np.random.default_rng(length)

    def normal(*shape: int) -> mx.array:
        return mx.array(random.normal(size=shape).astype(np.float32))

    shape = 2, length, 3, 32
    r, k, v = (normal(*shape) for _ in range(3))
    w = mx.exp(-0.606531 * mx.sigmoid(normal(*shape) + shift))  # as the model's
    key = normal(*shape)
    key = key / mx.linalg.norm(key, axis=-1, keepdims=True)
    arrays = r, w, k, v, -key, key * mx.sigmoid(normal(*shape)), normal(2, 3, 32, 32)
    y, state = wkv7(None, *arrays)
    expected, expected_state = LOOPS["rwkv7"](None, *arrays)
    np.testing.assert_allclose(np.array(state), np.array(expected_state), 1e-4, 1e-4)
    np.testing.assert_allclose(np.array(y), np.array(expected.reshape(y.shape)), 1e-3, 1e-3)
