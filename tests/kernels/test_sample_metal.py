"""How the sampling kernel gets its results: reads, launches, memory, schedules."""

import mlx.core as mx
import numpy as np
import pytest
from metal.emulator import Run
from support.sampling_reference import RowCase, batch_of, expected, random_case

from mlxnode.kernels import pool_metal, sample_metal
from mlxnode.kernels.pool import PoolingColumns


@pytest.fixture(autouse=True)
def _emulated(emulated):
    pass


def peaked_logits(vocabulary: int) -> np.ndarray:
    """Logits like a language model's: a few likely tokens above many unlikely ones."""
    random = np.random.default_rng(vocabulary)
    logits = random.normal(0, 2, vocabulary)
    logits[random.choice(vocabulary, 40, replace=False)] += random.normal(10, 3, 40)
    return logits.astype(np.float32)


def run(*cases: RowCase, dtype=mx.bfloat16, num_top_logprobs: int = 0) -> Run:
    """The one launch of a batch."""
    before = len(sample_metal.kernel().runs)
    batch_of(list(cases), dtype).sample(sample_metal.sample_metal, num_top_logprobs)
    runs = sample_metal.kernel().runs[before:]
    assert len(runs) == 1
    return runs[0]


COMMON = [
    {"top_p": 0.95},
    {"top_p": 0.9, "temperature": 0.7},
    {"top_k": 40},
    {"top_k": 50, "top_p": 0.95},
    {"min_p": 0.05},
    {"top_k": 20, "top_p": 0.8, "min_p": 0.01, "temperature": 0.6},
]


@pytest.mark.parametrize("vocabulary", [32_000, 49_152, 151_936, 262_144])
def test_sample_reads_truncated_rows_at_most_twice(vocabulary):
    cases = [RowCase(peaked_logits(vocabulary), **row) for row in COMMON]
    result = run(*cases)
    assert result.traffic["logits"].reads < 2.001
    assert result.threadgroups == len(cases)


@pytest.mark.parametrize(("row", "reads"), [({"temperature": 0.0}, 1.0), ({}, 1 + 1 / 16)])
def test_sample_reads_other_rows_about_once(row, reads):
    result = run(RowCase(peaked_logits(49_152), **row))
    assert result.traffic["logits"].reads < reads + 0.001


def test_sample_reads_once_more_for_top_logprobs():
    result = run(RowCase(peaked_logits(49_152), temperature=0.0), num_top_logprobs=20)
    assert result.traffic["logits"].reads < 2.001


def test_sample_reads_nothing_of_masks_and_adjustments_for_rows_without():
    logits = peaked_logits(49_152)
    plain = RowCase(logits, top_p=0.9)
    mask = np.arange(49_152) % 2 == 0
    alone = run(RowCase(logits, top_p=0.9, mask=mask, bias={7: 1.0, 9: 2.0})).traffic
    result = run(RowCase(logits, top_p=0.9, mask=mask, bias={7: 1.0, 9: 2.0}), plain).traffic
    assert result["mask_bits"].read == alone["mask_bits"].read
    # Each of the 512 threads reads the first entry, which shows that the row has no others.
    assert result["biases"].read - alone["biases"].read <= 512 * 4


def test_sample_reads_a_wide_distribution_a_bounded_number_of_times():
    random = np.random.default_rng(2)
    logits = random.normal(0, 1, 49_152).astype(np.float32)
    assert run(RowCase(logits, top_p=0.95)).traffic["logits"].reads < 14
    assert run(RowCase(logits, top_k=20_000)).traffic["logits"].reads < 14


def test_sample_keeps_to_the_limits_of_a_threadgroup():
    case = RowCase(peaked_logits(5000), top_p=0.9, bias={5: 1.0}, mask=np.ones(5000, bool))
    result = run(case, num_top_logprobs=5)
    assert result.threadgroup_bytes <= 32 * 1024
    assert run(case).threadgroup_bytes == result.threadgroup_bytes


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "reversed"},
        {"schedule": "shuffled", "seed": 1},
        {"schedule": "shuffled", "seed": 2, "poison": 0x00},
        {"poison": 0x7F},
    ],
    ids=str,
)
def test_sample_is_the_same_under_any_schedule(options):
    random = np.random.default_rng(3)
    cases = [random_case(random, 4000) for _ in range(24)]
    batch = batch_of(cases)
    usual = batch.sample(sample_metal.sample_metal, 20)
    sample_metal.kernel().options = options
    other = batch.sample(sample_metal.sample_metal, 20)
    for a, b in zip(usual, other, strict=True):
        assert mx.array_equal(a, b)


def test_sample_of_a_tiny_vocabulary_is_left_to_the_operations():
    # Under 8 elements MLX passes an array in another address space.
    case = RowCase(np.array([1.0, 3.0, 2.0], np.float32))
    sampled = batch_of([case]).sample(sample_metal.sample_metal)
    assert sampled.tokens.item() == expected(case).token
    assert sample_metal.kernel().runs == []


def test_sample_compiles_one_variant_for_all_batch_sizes():
    sources = set()
    for size in (1, 7, 8, 30):
        result = run(*[RowCase(peaked_logits(5000), top_p=0.9)] * size)
        sources.add(result.source)
    assert len(sources) == 1


def test_pool_reads_each_real_position_once_and_the_padding_never():
    hidden = mx.ones((3, 40, 96), mx.bfloat16)
    columns = PoolingColumns.of([40, 10, 40], ["mean", "mean", "last"], [96] * 3)
    pool_metal.pool_metal(hidden, columns, normalize=True)
    (result,) = pool_metal.kernel().runs
    assert result.traffic["hidden"].read == 2 * 96 * (40 + 10 + 1)
    assert result.traffic["vectors"].untouched == 0
