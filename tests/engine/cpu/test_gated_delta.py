"""The gated delta rule in chunks gives the results of mlx-lm's loop over the tokens."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import gated_delta as reference
from support.architectures import build, build_plain
from support.tables import some_of

from mlxnode.engine.cpu.abridged import abridged
from mlxnode.engine.cpu.gated_delta import gated_delta
from mlxnode.engine.fit.graph import trace

LOOP = reference.gated_delta_ops  # before any test installs the replacement
# Chunks have 32 tokens, or 16 if each key dimension has its own gate.
LENGTHS = [1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 200]
# Ranges of logits: moderate gates, gates near 1, gates near 0 (most are 0 in float32), all.
GATES = {"moderate": (-3, 3), "weak": (5, 15), "strong": (-120, -60), "mixed": (-100, 100)}


def inputs(
    length: int,
    *,
    batch: int = 1,
    heads: tuple[int, int] = (2, 4),
    sizes: tuple[int, int] = (16, 24),
    gates: str = "moderate",
    is_vector: bool = False,
    largest_beta: float = 1.0,
) -> list[mx.array]:
    """q, k, v, g, beta and a state: keys have length 1, as those of the models."""
    random = np.random.default_rng(length)
    (K, H), (Dk, Dv) = heads, sizes

    def normal(*shape: int) -> mx.array:
        return mx.array(random.normal(size=shape).astype(np.float32))

    q, k = reference.normalize_qk(
        normal(batch, length, K, Dk), normal(batch, length, K, Dk), inv_scale=Dk**-0.5, eps=1e-6
    )
    shape = (batch, length, H, Dk) if is_vector else (batch, length, H)
    g = mx.sigmoid(mx.array(random.uniform(*GATES[gates], shape).astype(np.float32)))
    beta = largest_beta * mx.sigmoid(normal(batch, length, H))
    return [q, k, normal(batch, length, H, Dv), g, beta, normal(batch, H, Dv, Dk)]


def check_equal(got, expected) -> None:
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(np.array(mine), np.array(theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("is_vector", [False, True], ids=["scalar", "vector"])
@pytest.mark.parametrize("length", LENGTHS)
def test_tokens_are_computed_as_one_by_one(length, is_vector, gates):
    arrays = inputs(length, batch=2, gates=gates, is_vector=is_vector)
    check_equal(gated_delta(*arrays), LOOP(*arrays))


@pytest.mark.parametrize("heads", [(1, 1), (3, 3), (2, 4), (2, 6)])
@pytest.mark.parametrize("sizes", [(64, 64), (128, 32), (8, 200)])
@pytest.mark.parametrize("is_vector", [False, True], ids=["scalar", "vector"])
def test_heads_may_share_keys_and_have_any_size(heads, sizes, is_vector):
    arrays = inputs(70, heads=heads, sizes=sizes, is_vector=is_vector)
    check_equal(gated_delta(*arrays), LOOP(*arrays))


@pytest.mark.parametrize("is_vector", [False, True], ids=["scalar", "vector"])
def test_many_tokens_are_computed_in_segments(is_vector):
    arrays = inputs(700, heads=(8, 16), sizes=(64, 64), is_vector=is_vector)
    check_equal(gated_delta(*arrays), LOOP(*arrays))


@pytest.mark.parametrize("is_vector", [False, True], ids=["scalar", "vector"])
@pytest.mark.parametrize("length", [1, 20, 90])
def test_masked_tokens_leave_the_state(length, is_vector):
    arrays = inputs(length, batch=4, is_vector=is_vector)
    lengths = mx.array([0, 1, length // 2, length])
    mask = mx.arange(length) < lengths[:, None]
    y, state = gated_delta(*arrays, mask=mask)
    expected, expected_state = LOOP(*arrays, mask=mask)
    seen = mask[..., None, None]
    check_equal((y * seen, state), (expected * seen, expected_state))
    assert mx.array_equal(state[0], arrays[-1][0])
    left = mx.arange(length) >= length - lengths[:, None]  # padding may come first
    check_equal(gated_delta(*arrays, mask=left)[1:], LOOP(*arrays, mask=left)[1:])


def test_equal_keys_that_erase_twice_as_much_stay_stable():
    """Worst for the triangular system: a beta of 2 reflects the state at each token."""
    q, k, v, g, beta, state = inputs(200, gates="weak")
    k = mx.broadcast_to(k[:, :1], k.shape)
    arrays = q, k, v, mx.ones(g.shape), mx.full(beta.shape, 2.0), state
    got, expected = gated_delta(*arrays), LOOP(*arrays)
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.array(mine), np.array(theirs), rtol=1e-3, atol=1e-3)


def test_a_state_is_optional_and_types_are_kept():
    *arrays, state = inputs(40)
    check_equal(gated_delta(*arrays), gated_delta(*arrays, mx.zeros_like(state)))
    half = [array.astype(mx.bfloat16) for array in arrays[:3]] + arrays[3:]
    for length in (1, 40):
        y, state = gated_delta(*(array[:, :length] for array in half))
        assert (y.dtype, state.dtype) == (mx.bfloat16, mx.float32)


@pytest.mark.parametrize("is_vector", [False, True], ids=["scalar", "vector"])
def test_a_prompt_may_be_cut_anywhere(is_vector):
    *arrays, state = inputs(150, is_vector=is_vector)
    expected = gated_delta(*arrays, state)
    parts, start = [], 0
    for end in (1, 50, 82, 83, 150):
        y, state = gated_delta(*(array[:, start:end] for array in arrays), state)
        parts.append(y)
        start = end
    check_equal((mx.concatenate(parts, axis=1), state), expected)


@pytest.mark.parametrize("is_vector", [False, True], ids=["scalar", "vector"])
def test_a_trace_has_the_shapes_and_few_operations(is_vector):
    def operations(length: int) -> int:
        arrays = inputs(length, heads=(4, 8), sizes=(64, 64), is_vector=is_vector)
        with abridged():
            graph = trace(gated_delta, arrays)
        shapes = [graph.shapes[name] for name in graph.outputs]
        assert shapes == [(1, length, 8, 64), (1, 8, 64, 64)]
        return len(graph.operations)

    assert operations(4096) == operations(2048) < 1000


@pytest.mark.parametrize(
    "name",
    some_of(
        ["qwen3_5", "qwen3_next", "olmo_hybrid", "kimi_linear", "bailing_moe_v3", "kimi_k3"],
        ["qwen3_5", "qwen3_next", "olmo_hybrid", "kimi_linear"],
    ),
)
def test_models_say_what_they_say_with_the_loop(name, monkeypatch):
    tokens = mx.array(np.random.default_rng(3).integers(0, 288, (2, 75)))
    calls = []

    def use(function):
        def counted(*arguments):
            calls.append(function)
            return function(*arguments)

        monkeypatch.setattr(reference, "gated_delta_ops", counted)

    model, plain = build(name), build_plain(name)
    use(gated_delta)
    cache = model.make_cache()
    parts = [model(tokens[:, a:b], cache=cache) for a, b in ((0, 40), (40, 74), (74, 75))]
    got = mx.concatenate(parts, axis=1)
    use(LOOP)
    expected = plain(tokens)
    assert set(calls) == {gated_delta, LOOP}
    tolerance = 1e-4 * float(mx.abs(expected).max())
    np.testing.assert_allclose(np.array(got), np.array(expected), rtol=1e-3, atol=tolerance)
    assert mx.array_equal(got.argmax(-1), expected.argmax(-1))
