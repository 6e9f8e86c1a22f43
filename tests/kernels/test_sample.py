"""Sampling against a float64 reference, and its distribution against exact probabilities."""

import itertools

import mlx.core as mx
import numpy as np
import pytest

from mlxnode.kernels.sample import SamplingColumns, sample

OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def columns_of(rows: list[dict]) -> SamplingColumns:
    rows = [OFF | row for row in rows]
    return SamplingColumns.of(**{name: [row[name] for row in rows] for name in OFF})


def kept_weights(logits: np.ndarray, *, temperature, top_k, top_p, min_p) -> np.ndarray:
    """The weights of one row's distribution, [V] float64; the most likely token weighs 1."""
    logits = logits.astype(np.float64)
    weights = np.exp((logits - logits.max()) / temperature)
    order = np.lexsort((np.arange(len(logits)), -logits))  # by logit, ties by lower id
    kept = order[: top_k or None]
    mass = np.cumsum(weights[kept])
    if top_p < 1:
        kept = kept[: np.searchsorted(mass, top_p * mass[-1]) + 1]
    kept = kept[weights[kept] >= min_p]
    result = np.zeros_like(weights)
    result[kept] = weights[kept]
    return result


def draw_of(random: np.random.Generator, count: int) -> np.ndarray:
    return (random.integers(0, 2**23, count) / 2**23).astype(np.float32)


def draw_one(logits: np.ndarray, parameters: dict, draws: np.ndarray) -> np.ndarray:
    """Many draws from one row: the row repeated, one draw each."""
    batch = mx.broadcast_to(mx.array(logits)[None], (len(draws), len(logits)))
    columns = columns_of([parameters] * len(draws))
    return np.array(sample(batch, columns, mx.array(draws))[0])


CASES = [
    {"temperature": 0.7},
    {"temperature": 1.3, "top_k": 7},
    {"top_p": 0.6},
    {"temperature": 0.8, "top_p": 0.9},
    {"min_p": 0.1},
    {"temperature": 1.2, "top_k": 12, "top_p": 0.8, "min_p": 0.05},
]


@pytest.mark.parametrize("parameters", CASES, ids=str)
def test_sample_follows_the_exact_distribution(parameters):
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, 40).astype(np.float32)
    weights = kept_weights(logits, **(OFF | parameters))
    expected = weights / weights.sum()
    count = 20_000
    observed = np.bincount(draw_one(logits, parameters, draw_of(random, count)), minlength=40)
    assert observed[expected == 0].sum() == 0
    likely = expected * count >= 5
    chi2 = ((observed - expected * count)[likely] ** 2 / (expected * count)[likely]).sum()
    freedom = likely.sum() - 1
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("vocabulary", [1, 2, 17, 300, 4099, 20_000])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16], ids=str)
def test_sample_never_leaves_the_kept_set(vocabulary, dtype):
    random = np.random.default_rng(vocabulary)
    rows = [
        {"temperature": t, "top_k": k, "top_p": p, "min_p": m}
        for t, k, p, m in itertools.product((0.3, 1.9), (0, 1, 40), (1.0, 0.5), (0.0, 0.02))
    ]
    logits = mx.array(random.normal(0, 3, (len(rows), vocabulary))).astype(dtype)
    draws = draw_of(random, len(rows))
    tokens, _ = sample(logits, columns_of(rows), mx.array(draws))
    exact = np.array(logits.astype(mx.float32))
    for row, token, values in zip(rows, tokens.tolist(), exact, strict=True):
        weights = kept_weights(values, **row)
        # A token at the very edge of the nucleus may be in or out by rounding.
        slack = row | {"top_p": min(row["top_p"] + 1e-5, 1.0), "min_p": row["min_p"] * 0.99999}
        assert weights[token] > 0 or kept_weights(values, **slack)[token] > 0


def test_sample_is_exact_where_the_nucleus_is_wider_than_the_candidates():
    random = np.random.default_rng(3)
    logits = random.normal(0, 0.01, 30_000).astype(np.float32)  # nearly flat
    weights = kept_weights(logits, **(OFF | {"top_p": 0.5}))
    assert 10_000 < (weights > 0).sum() < 20_000
    tokens = draw_one(logits, {"top_p": 0.5}, draw_of(random, 64))
    assert (weights[tokens] > 0).all()
    assert len(set(tokens.tolist())) > 55


def test_sample_breaks_ties_by_lower_id():
    logits = np.zeros((3, 1000), np.float32)
    logits[:, 500:] = 1.0  # five hundred equal best tokens
    columns = columns_of([{"temperature": 0.0}, {"top_k": 1}, {"top_k": 300}])
    draws = mx.array([0.0, 0.99, 1 - 2**-23], mx.float32)
    tokens, _ = sample(mx.array(logits), columns, draws)
    assert tokens.tolist() == [500, 500, 799]


def test_sample_greedy_rows_take_the_most_likely_token_in_any_batch():
    random = np.random.default_rng(4)
    logits = random.normal(0, 1, (4, 100)).astype(np.float32)
    rows = [{"temperature": 0.0}, {"top_p": 0.9}, {"temperature": 0.0, "top_k": 5}, {}]
    tokens, _ = sample(mx.array(logits), columns_of(rows), mx.array(draw_of(random, 4)))
    best = logits.argmax(-1)
    assert tokens.tolist()[0] == best[0]
    assert tokens.tolist()[2] == best[2]
    alone, _ = sample(mx.array(logits), columns_of([{"temperature": 0.0}] * 4), mx.zeros(4))
    assert alone.tolist() == best.tolist()


def test_sample_logprobs_are_those_of_the_raw_logits():
    random = np.random.default_rng(5)
    logits = random.normal(0, 4, (3, 5000)).astype(np.float32)
    rows = [{"temperature": 0.0}, {"temperature": 0.3, "top_k": 3}, {"temperature": 2.0}]
    tokens, logprobs = sample(mx.array(logits), columns_of(rows), mx.array(draw_of(random, 3)))
    wide = logits.astype(np.float64)
    expected = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    expected = expected[np.arange(3), np.array(tokens)]
    np.testing.assert_allclose(np.array(logprobs), expected, rtol=1e-5, atol=1e-5)


def test_sample_does_not_depend_on_the_other_rows():
    random = np.random.default_rng(6)
    logits = random.normal(0, 3, (6, 9000)).astype(np.float32)
    rows = [
        {"top_p": 0.9},
        {"temperature": 0.0},
        {"top_k": 9},
        {},
        {"min_p": 0.2},
        {"top_p": 0.5},
    ]
    draws = draw_of(random, 6)
    together, _ = sample(mx.array(logits), columns_of(rows), mx.array(draws))
    for i, row in enumerate(rows):
        alone, _ = sample(
            mx.array(logits[i : i + 1]), columns_of([row]), mx.array(draws[i : i + 1])
        )
        assert alone.item() == together[i].item()


def test_sample_never_draws_a_forbidden_token():
    logits = np.full((2, 600), -np.inf, np.float32)
    logits[:, [7, 300]] = 0.0
    draws = mx.array([0.0, 1 - 2**-23], mx.float32)
    for row in ({}, {"top_p": 0.99}, {"top_k": 50}, {"min_p": 0.5}, {"top_p": 0.0}):
        tokens, _ = sample(mx.array(logits), columns_of([row] * 2), draws)
        assert tokens.tolist() == ([7, 7] if row.get("top_p") == 0.0 else [7, 300])


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_sample_flags_a_row_without_a_distribution_and_no_other(broken):
    logits = np.zeros((3, 50), np.float32)
    logits[1] = broken
    if broken != -np.inf:
        logits[1, 1:] = 0.0
    rows = [{"top_p": 0.9}, {"top_p": 0.9}, {"temperature": 0.0}]
    _, logprobs = sample(mx.array(logits), columns_of(rows), mx.zeros(3))
    assert np.isnan(np.array(logprobs)).tolist() == [False, True, False]
