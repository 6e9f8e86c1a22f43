"""The kernels with the errors that Metal's specification allows its functions of float.

Subnormal floats are zero in the emulator, always, as on Apple GPUs.
"""

import dataclasses

import mlx.core as mx
import numpy as np
import pytest
from metal.emulator import MetalFault
from support.sampling_reference import (
    RowCase,
    batch_of,
    expected,
    log_softmax,
    probabilities,
    random_case,
)
from support.tables import some_of

from mlxnode.kernels import pool_metal, sample_metal
from mlxnode.kernels.pool import PoolingColumns, pool_ops
from mlxnode.kernels.sample_metal import sample_metal as sample

VOCABULARY = 1501
LOGITS = np.random.default_rng(0).normal(0, 2, VOCABULARY).astype(np.float32)
ACCURACIES = ("library", "high", "low", "mixed")
# Measured: 3.2e-6, of which 4 units in the last place of the logarithm of the mass are most.
LOGPROB_TOLERANCE = 6e-6
# A number nearer to another token, as a share of the distribution, may give that token.
MARGIN = 2e-5
SEED_OF_ZERO = 75_465  # its random number at position 0 is 0


@pytest.fixture(autouse=True, params=ACCURACIES)
def accuracy(request, emulated, monkeypatch) -> str:
    monkeypatch.setattr(sample_metal, "GROUPS", 2)
    monkeypatch.setattr("support.sampling_reference.GROUPS", 2)
    monkeypatch.setattr(pool_metal, "THREADS", 64)
    for module in (sample_metal, pool_metal):
        module.kernel().options = {"accuracy": request.param, "step_limit": 3 * 10**7}
    return request.param


def assert_right(cases: list[RowCase], num_tops: int = 0) -> int:
    """Compare with float64; the number of rows whose token is beyond doubt."""
    result = batch_of(cases).sample(sample, num_tops)
    num_clear = 0
    for row, (case, token) in enumerate(zip(cases, result.tokens.tolist(), strict=True)):
        right = expected(case)
        if right.margin > MARGIN:
            assert token == right.token, case
            num_clear += 1
        logprobs = log_softmax(case.logits)
        error = result.logprobs[row].item() - logprobs[token]
        assert abs(error) < LOGPROB_TOLERANCE, case
        assert result.logprobs[row].item() <= 0
        if num_tops:
            ids = result.top_ids[row].tolist()
            tops = np.array(result.top_logprobs[row])
            np.testing.assert_allclose(tops, logprobs[ids], atol=LOGPROB_TOLERANCE)
    return num_clear


def check_random_rows():
    random = np.random.default_rng(7)
    cases = [random_case(random, VOCABULARY) for _ in range(48)]
    assert assert_right(cases, num_tops=20) > 40


def check_certain_tokens():
    """A token's probability is at most 1, also where nearly all of the mass is its own."""
    logits = np.tile(LOGITS / 4, (8, 1))
    logits[np.arange(8), np.arange(8)] = [8, 10, 15, 20, 30, 50, 100, 1e4]
    assert_right([RowCase(row, temperature=0.0) for row in logits], num_tops=3)


def check_the_most_likely_token_is_kept():
    tied = LOGITS.copy()
    tied[[5, 700, 1500]] = 30.0
    tight = [{"min_p": 1.0}, {"top_p": 0.0}, {"top_p": 1e-45}, {"top_p": 1e-38, "top_k": 9}]
    for limits in (*tight, {"top_k": 1}, {"min_p": 1.0, "top_p": 0.0}):
        cases = [RowCase(LOGITS, seed=seed, **limits) for seed in range(4)]
        tokens = batch_of(cases).sample(sample).tokens.tolist()
        assert tokens == [LOGITS.argmax()] * 4
    cases = [RowCase(tied, min_p=1.0, seed=seed) for seed in range(30)]
    assert set(batch_of(cases).sample(sample).tokens.tolist()) == {5, 700, 1500}


def check_the_number_zero():
    """It gives the first token, in the order of sampling."""
    for limits in ({"top_p": 0.9}, {"top_k": 40}, {"min_p": 0.01}, {}):
        assert_right([RowCase(LOGITS, seed=SEED_OF_ZERO, **limits)])
    few = np.where(np.arange(VOCABULARY) == 300, 5.0, -np.inf).astype(np.float32)
    assert batch_of([RowCase(few, seed=SEED_OF_ZERO)]).sample(sample).tokens.item() == 300


def check_tails_of_no_weight():
    """Tokens whose weight is subnormal are as tokens of no weight, wherever the cut is."""
    far = np.where(np.arange(VOCABULARY) < 3, 0.0, -87.5).astype(np.float32)
    for limits in ({}, {"top_p": 0.999999}, {"top_k": 1000}, {"min_p": 1e-45}):
        cases = [RowCase(far, seed=seed, **limits) for seed in range(20)]
        assert set(batch_of(cases).sample(sample).tokens.tolist()) <= {0, 1, 2}


CHECKS = [
    check_random_rows,
    check_certain_tokens,
    check_the_most_likely_token_is_kept,
    check_the_number_zero,
    check_tails_of_no_weight,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_sample_holds(check):
    check()


ROWS = [{}, {"top_p": 0.9}, {"top_k": 30, "min_p": 0.01}, {"temperature": 2.0, "top_p": 0.97}]


@pytest.mark.parametrize("row", some_of(ROWS, [{"top_p": 0.9}]))
def test_sample_follows_the_exact_distribution(row, accuracy):
    sample_metal.kernel().options = {"checked": False, "accuracy": accuracy}
    case = RowCase(LOGITS[:300], **row)
    seeds = range(1000)
    cases = [dataclasses.replace(case, seed=seed) for seed in seeds]
    tokens = np.array(batch_of(cases).sample(sample).tokens)
    share = probabilities(case) * len(seeds)
    observed = np.bincount(tokens, minlength=300)
    assert observed[share == 0].sum() == 0
    common = share > 10
    chi2 = ((observed - share)[common] ** 2 / share[common]).sum()
    assert chi2 < common.sum() + 5 * np.sqrt(2 * common.sum())


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e18])
def test_pool_holds(scale):
    random = np.random.default_rng(2)
    hidden = mx.array(random.normal(0, scale, (4, 60, 100)).astype(np.float32))
    columns = PoolingColumns.of([60, 7, 1, 33], ["mean", "mean", "cls", "last"], [100] * 4)
    result = pool_metal.pool_metal(hidden, columns, normalize=True)
    np.testing.assert_allclose(
        result, pool_ops(hidden, columns, normalize=True), rtol=3e-6, atol=1e-7
    )
    np.testing.assert_allclose(np.linalg.norm(np.array(result), axis=1), 1, rtol=1e-6)


def test_pool_of_subnormal_states_is_zero():
    hidden = mx.full((2, 3, 20), 1e-39)
    columns = PoolingColumns.of([3, 3], ["mean", "last"], [20, 20])
    result = pool_metal.pool_metal(hidden, columns, normalize=True)
    assert mx.array_equal(result, mx.zeros((2, 20)))


# What holds the answers; without it, the check fails with at least one accuracy.
GUARDS = {
    "the precise logarithm": ("precise::log(", "log(", check_certain_tokens),
    "a mass of at least 1": ("max(plain.mass, 1.0f)", "plain.mass", check_certain_tokens),
    "the weight of the peak": (
        "distance > 0.0f ? exp2(-distance * scale) : 1.0f",
        "exp2(-distance * scale)",
        check_the_most_likely_token_is_kept,
    ),
    "the smallest top-p": (
        "max(top_p, SMALLEST)",
        "top_p",
        check_the_most_likely_token_is_kept,
    ),
    "the smallest sampled mass": (
        "max(number * kept.mass, SMALLEST)",
        "(number * kept.mass)",
        check_the_number_zero,
    ),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_without_a_guard_a_check_fails(guard, accuracy, monkeypatch):
    if accuracy != "library":
        return  # all accuracies together, once
    old, new, check = GUARDS[guard]
    assert old in sample_metal._HEADER + sample_metal._BODY
    for part in ("_HEADER", "_BODY"):
        monkeypatch.setattr(sample_metal, part, getattr(sample_metal, part).replace(old, new))
    sample_metal.kernel.cache_clear()
    failures = []
    for each in ACCURACIES:
        sample_metal.kernel().options = {"accuracy": each, "step_limit": 3 * 10**7}
        try:
            check()
        except (AssertionError, MetalFault):
            failures.append(each)
    assert failures
    if guard in ("the precise logarithm", "the weight of the peak", "a mass of at least 1"):
        assert "library" not in failures  # only errors of the functions show these
