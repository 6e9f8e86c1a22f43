"""``sample`` against its reference, by the operations and by the Metal kernel."""

import itertools
import math

import mlx.core as mx
import numpy as np
import pytest
from support.sampling_reference import (
    RowCase,
    batch_of,
    expected,
    kept_tokens,
    log_softmax,
    random_case,
    ranked,
)
from support.tables import some_of

from mlxnode.kernels.philox import uniform
from mlxnode.kernels.sample_metal import sample_metal
from mlxnode.kernels.sample_ops import sample_ops

# Below this distance from a boundary, as a share of the distribution, float32 sums decide.
ROUNDING = 1e-5


@pytest.fixture(autouse=True)
def sample(is_metal):
    return sample_metal if is_metal else sample_ops


def assert_as_expected(sample, cases: list[RowCase], dtype=mx.float32) -> None:
    """Tokens and log-probabilities of a batch are those of the float64 reference."""
    sampled = batch_of(cases, dtype).sample(sample)
    decided = 0
    for case, token, logprob in zip(
        cases, sampled.tokens.tolist(), sampled.logprobs.tolist(), strict=True
    ):
        right = expected(case)
        if right.margin > ROUNDING:
            decided += 1
            assert token == right.token, case
        logprobs = log_softmax(case.logits)
        assert math.isclose(logprob, logprobs[token], rel_tol=1e-5, abs_tol=2e-5)
    assert decided >= 0.7 * len(cases)


SIZES = [1, 2, 3, 31, 33, 128, 257, 1000, 2048, 4099]


DTYPES = [mx.float32, mx.float16, mx.bfloat16]
# Each type once, around a SIMD group, a block and several blocks.
QUICK = [(33, mx.float32), (257, mx.float16), (1000, mx.float32), (2048, mx.bfloat16)]


@pytest.mark.parametrize(
    ("vocabulary", "dtype"),
    [
        case if case in QUICK else pytest.param(*case, marks=pytest.mark.exhaustive)
        for case in itertools.product(SIZES, DTYPES)
    ],
    ids=str,
)
def test_sample_equals_the_reference(sample, vocabulary, dtype):
    random = np.random.default_rng(vocabulary)
    cases = [random_case(random, vocabulary) for _ in range(33)]
    assert_as_expected(sample, cases, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("vocabulary", "batch", "dtype"),
    [
        pytest.param(32_001, 3, mx.float16, marks=pytest.mark.exhaustive),
        pytest.param(49_152, 64, mx.bfloat16, marks=pytest.mark.exhaustive),
        (151_936, 8, mx.bfloat16),
        pytest.param(262_144, 4, mx.float32, marks=pytest.mark.exhaustive),
        (262_143, 5, mx.bfloat16),
    ],
    ids=str,
)
def test_sample_equals_the_reference_on_real_vocabularies(sample, vocabulary, batch, dtype):
    random = np.random.default_rng(batch)
    assert_as_expected(sample, [random_case(random, vocabulary) for _ in range(batch)], dtype)


EDGES = {
    "top-k of everything": {"top_k": 5000},
    "top-k beyond the vocabulary": {"top_k": 9000},
    "top-k of nearly everything": {"top_k": 4999, "top_p": 0.999},
    "top-k of many": {"top_k": 2500, "min_p": 1e-9},
    "top-p of nothing": {"top_p": 0.0},
    "top-p of nearly nothing": {"top_p": 1e-12},
    "top-p of nearly everything": {"top_p": 1 - 2**-24},
    "min-p of one": {"min_p": 1.0},
    "min-p of nearly nothing": {"min_p": 1e-30},
    "temperature near zero": {"temperature": 1e-6},
    "smallest temperature": {"temperature": 1e-45, "top_p": 0.5},
    "huge temperature": {"temperature": 1e30, "top_p": 0.5},
    "all at once": {"temperature": 1.7, "top_k": 1000, "top_p": 0.9, "min_p": 1e-3},
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("spread", some_of([0.01, 1, 5], [1]))
def test_sample_parameters_at_their_edges(sample, name, spread):
    random = np.random.default_rng(5)
    logits = random.normal(0, spread, 5000).astype(np.float32)
    cases = [RowCase(logits, seed=seed, **EDGES[name]) for seed in range(8)]
    batch = batch_of(cases)
    tokens = batch.sample(sample).tokens.tolist()
    for case, token in zip(cases, tokens, strict=True):
        right = expected(case)
        if right.margin > ROUNDING:
            assert token == right.token
        else:
            # Rounding decides between the tokens near the boundary.
            order = ranked(case.logits).tolist()
            assert abs(order.index(token) - order.index(right.token)) < 50


@pytest.mark.parametrize(
    "logits",
    [
        np.zeros(5000),
        np.repeat([0.0, 1.0], 2500),
        np.where(np.arange(5000) % 7 == 0, 2.0, -np.inf),
        np.where(np.arange(5000) % 3 == 0, 0.0, np.finfo(np.float32).min),
        np.where(np.arange(5000) == 4321, 0.0, -np.inf),
        np.full(5000, np.finfo(np.float32).min),
        np.linspace(0, 1e30, 5000),
        np.concatenate([np.full(4000, -1e-30), np.full(1000, 1e-30)]),
    ],
    ids=["equal", "two steps", "forbidden", "lowest", "one left", "all lowest", "far", "tiny"],
)
def test_sample_ties_and_infinities(sample, logits):
    parameters = [
        {},
        {"temperature": 0.0},
        {"top_k": 1},
        {"top_k": 300},
        {"top_k": 3000},
        {"top_p": 0.3703},
        {"top_p": 0.0},
        {"min_p": 0.9},
        {"top_k": 700, "top_p": 0.6304, "min_p": 0.5},
    ]
    cases = [
        RowCase(logits.astype(np.float32), seed=seed, **row)
        for seed, row in enumerate(parameters)
    ]
    assert_as_expected(sample, cases)


# Positions where seed 0 gives the smallest and the largest number.
LEAST, GREATEST = 14_883_995, 4_826_271


@pytest.mark.parametrize("position", [LEAST, GREATEST])
@pytest.mark.parametrize("row", [{}, {"top_p": 0.9}, {"top_k": 2000}, {"min_p": 1e-3}], ids=str)
def test_sample_stays_inside_at_the_extreme_numbers(sample, position, row):
    number = uniform(np.zeros(1, np.uint64), np.array([position], np.uint32))[0]
    assert number == (0 if position == LEAST else 1 - 2.0**-23)
    random = np.random.default_rng(6)
    for spread in (0.01, 3):
        logits = random.normal(0, spread, 6000).astype(np.float32)
        logits[::5] = -np.inf
        case = RowCase(logits, position=position, **row)
        token = batch_of([case]).sample(sample).tokens.item()
        ids, _, _ = kept_tokens(case)
        if position == LEAST:
            assert token == ids[0]
        else:
            assert token in ids[-20:]


def test_sample_penalties_need_no_vocabulary_of_their_own(sample):
    # Ids 65,536 apart share a mark in the kernel.
    logits = np.zeros(200_000, np.float32)
    logits[[5, 65_541, 131_077]] = 5.0
    cases = [RowCase(logits, temperature=0.0, bias={65_541: 1.0, 5: -9.0, 199_999: 2.0})]
    assert batch_of(cases).sample(sample).tokens.item() == 65_541
    cases[0].bias[65_541] = -9.0
    assert batch_of(cases).sample(sample).tokens.item() == 131_077


def test_sample_counts_prompt_tokens_for_the_repetition_penalty_alone(sample):
    logits = np.array([4.0, 3.0, -1.0] + [-9.0] * 20, np.float32)
    names = {"repetition": 2.0, "frequency": 0.25, "presence": 0.5}

    def best(counts: dict[int, int], **penalties: float) -> list[int]:
        case = RowCase(logits, temperature=0.0, counts=counts, **penalties)
        return batch_of([case]).sample(sample).tokens.item()

    assert best({0: 0}, frequency=9.0, presence=9.0) == 0
    assert best({0: 0}, repetition=2.0) == 1
    assert best({0: 1}, presence=0.9) == 0
    assert best({0: 1}, presence=1.1) == 1
    assert best({0: 3}, frequency=0.3) == 0
    assert best({0: 3}, frequency=0.4) == 1
    assert best({0: 1, 1: 0}, **names) == 1


@pytest.mark.parametrize("count", [1, 5, 20])
def test_sample_top_logprobs_are_the_most_likely_by_raw_logit(sample, count):
    random = np.random.default_rng(7)
    cases = [random_case(random, 5000) for _ in range(8)]
    cases[0].logits[:] = 0
    cases[1].logits[3:] = -np.inf
    cases[2].logits[:] = np.round(cases[2].logits)
    batch = batch_of(cases)
    sampled = batch.sample(sample, count)
    for case, ids, logprobs in zip(
        cases, sampled.top_ids.tolist(), np.array(sampled.top_logprobs), strict=True
    ):
        order = ranked(case.logits)[:count]
        assert ids == order.tolist()
        np.testing.assert_allclose(
            logprobs, log_softmax(case.logits)[order], rtol=1e-5, atol=2e-5
        )
    assert sampled.tokens.tolist() == batch.sample(sample).tokens.tolist()


def test_sample_top_logprobs_of_a_small_vocabulary(sample):
    case = RowCase(np.array([1.0, 3.0, 2.0] * 3, np.float32))
    sampled = batch_of([case]).sample(sample, 20)
    assert sampled.top_ids.tolist() == [[1, 4, 7, 2, 5, 8, 0, 3, 6]]


def test_sample_does_not_depend_on_the_position_in_the_batch(sample):
    random = np.random.default_rng(8)
    cases = [random_case(random, 3000) for _ in range(12)]
    together = batch_of(cases).sample(sample, 3)
    for shift in (1, 5):
        moved = batch_of(cases[shift:] + cases[:shift]).sample(sample)
        assert moved.tokens.tolist() == np.roll(np.array(together.tokens), -shift).tolist()
    for case, token, logprob in zip(
        cases, together.tokens.tolist(), together.logprobs.tolist(), strict=True
    ):
        alone = batch_of([case]).sample(sample)
        assert alone.tokens.item() == token
        assert alone.logprobs.item() == logprob


@pytest.mark.parametrize("broken", ["a NaN", "all NaN", "+inf", "-inf", "mask", "+inf behind"])
@pytest.mark.parametrize("row", [{}, {"top_p": 0.9}, {"temperature": 0.0}], ids=str)
def test_sample_flags_only_rows_without_a_distribution(sample, broken, row):
    cases = [RowCase(np.linspace(0, 1, 300, dtype=np.float32), **row) for _ in range(3)]
    logits = cases[1].logits = cases[1].logits.copy()
    if broken == "mask":
        cases[1].mask = np.zeros(300, bool)
    elif broken.startswith("+inf"):
        logits[-1 if "behind" in broken else 0] = np.inf
    elif broken == "a NaN":
        logits[77] = np.nan
    else:
        logits[:] = {"all NaN": np.nan, "-inf": -np.inf}[broken]
    sampled = batch_of(cases).sample(sample, 5)
    assert np.isnan(np.array(sampled.logprobs)).tolist() == [False, True, False]
    assert sampled.tokens.tolist()[1] == 0
    assert np.isnan(np.array(sampled.top_logprobs[1])).all() or broken == "mask"
    flagged = batch_of(cases).sample(sample, needs_logprobs=False)
    assert np.isnan(np.array(flagged.logprobs)).tolist() == [False, True, False]
    assert flagged.tokens.tolist() == sampled.tokens.tolist()


def test_sample_flags_a_nan_that_the_mask_hides(sample):
    logits = np.zeros(300, np.float32)
    logits[9] = np.nan
    case = RowCase(logits, mask=np.arange(300) > 100)
    for needs_logprobs in (True, False):
        sampled = batch_of([case]).sample(sample, needs_logprobs=needs_logprobs)
        assert math.isnan(sampled.logprobs.item())
