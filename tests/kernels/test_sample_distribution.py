"""Tokens sampled with many seeds, against the exact probabilities."""

import dataclasses

import numpy as np
import pytest
from support.sampling_reference import RowCase, batch_of, probabilities
from support.tables import some_of

from mlxnode.kernels import sample_metal
from mlxnode.kernels.sample_ops import sample_ops

SAMPLES = 100_000
BATCH = 2000  # samples in one call
VOCABULARY = 300

ROWS = {
    "temperature": {"temperature": 0.7},
    "top-k": {"temperature": 1.3, "top_k": 7},
    "top-p": {"top_p": 0.6},
    "min-p": {"min_p": 0.1},
    "top-k and top-p": {"top_k": 30, "top_p": 0.8},
    "top-p and min-p": {"temperature": 1.5, "top_p": 0.9, "min_p": 0.02},
    "top-k and min-p": {"top_k": 12, "min_p": 0.05},
    "all": {"temperature": 1.2, "top_k": 12, "top_p": 0.8, "min_p": 0.05},
    "wide top-k": {"temperature": 2.0, "top_k": 200},
    "wide top-p": {"temperature": 2.0, "top_p": 0.97},
    "edited": {"top_p": 0.9, "bias": {3: 2.5, 4: -9.0}, "counts": {5: 2, 6: 0}},
    "masked": {"temperature": 1.5, "mask": np.arange(VOCABULARY) % 3 == 1},
}

# Each of the parameters once, and all kinds of truncation together.
SOME_ROWS = some_of(ROWS, ["all", "edited", "masked"])

pytestmark = pytest.mark.slow


def many_samples(sample, case: RowCase, count: int) -> np.ndarray:
    """The tokens of copies of a row, each copy with a seed of its own. [count]"""
    batches = [range(start, start + BATCH) for start in range(0, count, BATCH)]
    return np.concatenate([sample_seeds(sample, case, seeds) for seeds in batches])


def sample_seeds(sample, case: RowCase, seeds: range) -> np.ndarray:
    batch = batch_of([dataclasses.replace(case, seed=seed) for seed in seeds])
    return np.array(batch.sample(sample).tokens)


def assert_follows(tokens: np.ndarray, share: np.ndarray) -> None:
    """A χ² test at five standard deviations; rare tokens are counted together."""
    observed = np.bincount(tokens, minlength=len(share))
    assert observed[share == 0].sum() == 0
    expected = share * len(tokens)
    rare = expected < 10
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    real = expected >= 10
    chi2 = ((observed - expected)[real] ** 2 / expected[real]).sum()
    freedom = real.sum() - 1
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom)


def make_case(name: str) -> RowCase:
    logits = np.random.default_rng(1).normal(0, 2, VOCABULARY).astype(np.float32)
    return RowCase(logits, repetition=1.3, frequency=0.4, presence=0.2, **ROWS[name])


@pytest.mark.long
@pytest.mark.parametrize("name", SOME_ROWS)
def test_sample_ops_follows_the_exact_distribution(name):
    case = make_case(name)
    assert_follows(many_samples(sample_ops, case, SAMPLES), probabilities(case))


@pytest.mark.parametrize("name", SOME_ROWS)
def test_sample_kernel_gives_the_tokens_of_the_operations(name, emulated, monkeypatch):
    # Many samples, so unchecked and with few SIMD groups; other tests check races and bounds.
    monkeypatch.setattr(sample_metal, "GROUPS", 2)
    sample_metal.kernel().options = {"checked": False}
    case = make_case(name)
    tokens = many_samples(sample_metal.sample_metal, case, 2000)
    assert_follows(tokens, probabilities(case))
    if case.mask is None and name != "temperature":
        # The order of a row that is not truncated depends on the number of groups.
        assert (tokens != many_samples(sample_ops, case, 2000)).sum() <= 1


@pytest.mark.metal
@pytest.mark.parity
@pytest.mark.parametrize("name", ROWS)
def test_sample_kernel_on_a_gpu_follows_the_exact_distribution(name):
    case = make_case(name)
    tokens = many_samples(sample_metal.sample_metal, case, SAMPLES)
    assert_follows(tokens, probabilities(case))
