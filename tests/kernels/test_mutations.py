"""Faults put into the kernels on purpose; for each, the check that finds it.

So the checks can fail. Every check passes on the kernels without faults.
"""

import dataclasses
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
from metal.emulator import MetalFault
from support.sampling_reference import RowCase, batch_of, expected, log_softmax, ranked

from mlxnode.kernels import pool_metal, sample_metal
from mlxnode.kernels.pool import PoolingColumns
from mlxnode.kernels.sample_metal import sample_metal as sample

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 2, 1501).astype(np.float32)
FLAT = RANDOM.normal(0, 0.01, 1501).astype(np.float32)


def assert_tokens(*cases: RowCase) -> None:
    cases = [dataclasses.replace(case, seed=seed) for seed, case in enumerate(cases)]
    sampled = batch_of(cases).sample(sample)
    for case, token, logprob in zip(
        cases, sampled.tokens.tolist(), sampled.logprobs.tolist(), strict=True
    ):
        right = expected(case)
        assert right.margin > 1e-5
        assert (token, round(logprob, 3)) == (right.token, round(right.logprob, 3))


def check_greedy_and_full():
    assert_tokens(*(RowCase(LOGITS, temperature=t) for t in (0.0, 1.0, 0.5, 2.0, 1.0, 1.0)))


def check_large_seeds():
    cases = [RowCase(LOGITS, seed=seed << 32) for seed in range(6)]
    tokens = batch_of(cases).sample(sample).tokens.tolist()
    assert tokens == [expected(case).token for case in cases]


def check_truncation():
    rows = (
        {"top_k": 9},
        {"top_p": 0.7},
        {"min_p": 0.1},
        {"top_k": 20, "top_p": 0.6},
        {"top_k": 1},
    )
    assert_tokens(*(RowCase(LOGITS, temperature=0.6, **row) for row in rows * 4))


def check_wide_truncation():
    rows = ({"top_k": 900}, {"top_p": 0.8}, {"min_p": 0.97}, {"top_k": 1200, "top_p": 0.5})
    assert_tokens(*(RowCase(FLAT, **row) for row in rows))


def check_exact_edges():
    four = np.where(np.arange(1501) < 4, 0.0, -np.inf).astype(np.float32)
    cases = [RowCase(four, top_p=0.5, seed=seed) for seed in range(40)]
    assert set(batch_of(cases).sample(sample).tokens.tolist()) == {0, 1}
    best = RowCase(LOGITS, min_p=1.0)
    assert batch_of([best]).sample(sample).tokens.item() == LOGITS.argmax()


def check_ties():
    steps = np.repeat([1.0, 2.0, 0.0], 501)[:1501].astype(np.float32)
    assert_tokens(*(RowCase(steps, top_k=k) for k in (1, 5, 100, 480)))


def check_edits():
    mask = np.arange(1501) % 3 == 0
    best = ranked(LOGITS)[:40].tolist()
    penalized = {"counts": {token: i % 3 for i, token in enumerate(best)}}
    penalties = {"repetition": 1.6, "frequency": 0.5, "presence": 0.7}
    assert_tokens(
        RowCase(LOGITS, mask=mask, top_p=0.8),
        RowCase(LOGITS, bias={best[0]: -20.0, best[30]: 3.0}, temperature=0.0),
        RowCase(LOGITS, **penalized, **penalties, top_p=0.8),
        RowCase(LOGITS),
    )


def check_top_logprobs():
    few = np.where(np.arange(1501) < 7, LOGITS, -np.inf).astype(np.float32)
    batch = batch_of([RowCase(LOGITS), RowCase(few)])
    sampled = batch.sample(sample, 20)
    for logits, ids, logprobs in zip(
        (LOGITS, few), sampled.top_ids.tolist(), np.array(sampled.top_logprobs), strict=True
    ):
        order = ranked(logits)[:20]
        assert ids == order.tolist()
        np.testing.assert_allclose(logprobs, log_softmax(logits)[order], rtol=1e-4)


def check_flags():
    broken = LOGITS.copy()
    broken[700] = np.nan
    cases = [RowCase(LOGITS), RowCase(broken), RowCase(LOGITS, mask=np.zeros(1501, bool))]
    logprobs = np.array(batch_of(cases).sample(sample).logprobs)
    assert np.isnan(logprobs).tolist() == [False, True, True]


def check_reads():
    batch_of([RowCase(LOGITS, top_p=0.5), RowCase(LOGITS, top_k=9)]).sample(sample)
    assert sample_metal.kernel().runs[-1].traffic["logits"].reads <= 2.001


def check_pooling():
    hidden = RANDOM.normal(0, 1, (4, 100, 700)).astype(np.float32)
    hidden[1, 30:] = np.nan
    modes, lengths = ["mean", "mean", "cls", "last"], [100, 30, 100, 99]
    columns = PoolingColumns.of(lengths, modes, [700, 700, 300, 700])
    result = np.array(pool_metal.pool_metal(mx.array(hidden), columns, normalize=True))
    right = np.stack([hidden[0].mean(0), hidden[1, :30].mean(0), hidden[2, 0], hidden[3, 98]])
    right[2, 300:] = 0
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    np.testing.assert_allclose(result, right, rtol=1e-4, atol=1e-6)


def check_pooling_of_zeros():
    columns = PoolingColumns.of([3, 0], ["mean", "last"], [20, 20])
    result = pool_metal.pool_metal(mx.zeros((2, 3, 20)), columns, normalize=True)
    assert mx.array_equal(result, mx.zeros((2, 20)))


def check_pooling_of_halves():
    hidden = mx.array(10 + RANDOM.normal(0, 1, (1, 2048, 8))).astype(mx.bfloat16)
    columns = PoolingColumns.of([2048], ["mean"], [8])
    result = np.array(pool_metal.pool_metal(hidden, columns, normalize=False))[0]
    exact = np.array(hidden.astype(mx.float32))[0].astype(np.float64).mean(0)
    np.testing.assert_allclose(result, exact, rtol=1e-5)


BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);\n"
ATOMIC = "memory_order_relaxed)"

# Name of a fault -> the module, the replacements in its source, the check that finds the fault.
MUTATIONS: dict[str, tuple[object, list[tuple[str, str]], Callable[[], None]]] = {
    "no barrier before partial sums are read": (
        sample_metal,
        [(f"= sum;\n  {BARRIER}", "= sum;\n")],
        check_greedy_and_full,
    ),
    "no barrier before partial sums are written": (
        sample_metal,
        [(f"simd_sum(value);\n  {BARRIER}", "simd_sum(value);\n")],
        check_truncation,
    ),
    "no barrier between the steps of the sort": (
        sample_metal,
        [(f"step /= 2) {{\n      {BARRIER}", "step /= 2) {\n")],
        check_truncation,
    ),
    "no barrier after the counter is reset": (
        sample_metal,
        [
            (
                f"0u, memory_order_relaxed);\n  {BARRIER}  for (uint i = 4",
                "0u, memory_order_relaxed);\n  for (uint i = 4",
            )
        ],
        check_truncation,
    ),
    "a barrier that one SIMD group reaches": (
        sample_metal,
        [(f"last : token;\n  }}\n  {BARRIER}", f"last : token;\n  {BARRIER}  }}\n")],
        check_greedy_and_full,
    ),
    "marks are not cleared": (
        sample_metal,
        [("i < MARKS; i +=", "i < 0; i +=")],
        check_edits,
    ),
    "candidates are counted without atomics": (
        sample_metal,
        [
            ("atomic_uint count;", "uint count;"),
            (f"atomic_store_explicit(&shared.count, 0u, {ATOMIC}", "shared.count = 0"),
            (f"atomic_fetch_add_explicit(&shared.count, 1u, {ATOMIC}", "shared.count++"),
            (f"atomic_load_explicit(&shared.count, {ATOMIC}", "shared.count"),
        ],
        check_truncation,
    ),
    "candidates beyond the capacity are stored": (
        sample_metal,
        [("if (slot < CAPACITY) ", "")],
        check_wide_truncation,
    ),
    "logits past the end of the row are read": (
        sample_metal,
        [("c < 4 && i + c < size", "c < 4")],
        check_greedy_and_full,
    ),
    "more threadgroup memory than there is": (
        sample_metal,
        [("SLOTS = 4;", "SLOTS = 80;")],
        check_truncation,
    ),
    "equal logits by higher id": (
        sample_metal,
        [
            ("| ulong(id);", "| ulong(~id);"),
            ("return uint(shared.keys[", "return ~uint(shared.keys["),
        ],
        check_ties,
    ),
    "an endless search among equals": (
        sample_metal,
        [("return low + (high - low) / PIVOTS * j;", "return low;")],
        check_ties,
    ),
    "top-k keeps one more": (
        sample_metal,
        [("rank_before < rank &&", "rank_before <= rank &&")],
        check_truncation,
    ),
    "top-p keeps one more where it is exact": (
        sample_metal,
        [("mass_before < mass &&", "mass_before <= mass &&")],
        check_exact_edges,
    ),
    "min-p drops what equals it": (
        sample_metal,
        [("own_weight >= weight", "own_weight > weight")],
        check_exact_edges,
    ),
    "top-p of all instead of what top-k left": (
        sample_metal,
        [("share * ranking.seek(source, by_rank, shared, my).mass", "share * source.mass")],
        check_truncation,
    ),
    "temperature is not applied to truncated rows": (
        sample_metal,
        [
            (
                "exp2(-distance * scale)",
                "exp2(-distance * LOG2_E)",
            )
        ],
        check_truncation,
    ),
    "mass before a narrowed window is lost": (
        sample_metal,
        [("rank, rank_to - rank, mass};", "rank, rank_to - rank, 0.0f};")],
        check_wide_truncation,
    ),
    "nine rounds of Philox": (
        sample_metal,
        [("i < 10; i++", "i < 9; i++")],
        check_greedy_and_full,
    ),
    "half of the seed is ignored": (
        sample_metal,
        [("key_1 = uint(seed >> 32)", "key_1 = 0")],
        check_large_seeds,
    ),
    "log-probabilities of the edited logits": (
        sample_metal,
        [("raw.add(x, i, LOG2_E)", "raw.add(row.edit(x, i), i, LOG2_E)")],
        check_edits,
    ),
    "mask bits of another word": (
        sample_metal,
        [("mask[i / 32] >> (i % 32)", "mask[i / 32]")],
        check_edits,
    ),
    "penalties for tokens of the prompt": (
        sample_metal,
        [("if (count > 0) x -=", "if (count >= 0) x -=")],
        check_edits,
    ),
    "rows without a distribution are not flagged": (
        sample_metal,
        [("const bool is_valid = plain.mass > 0.0f &&", "const bool is_valid = true ||")],
        check_flags,
    ),
    "the estimated end is too early": (
        sample_metal,
        [("if (simd_sum(count) >= enough", "if (simd_sum(count) >= 1")],
        check_reads,
    ),
    "pooling averages the padding": (
        pool_metal,
        [("mean_of(states + d, first, last, D)", "mean_of(states + d, first, L, D)")],
        check_pooling,
    ),
    "the last position is one too far": (
        pool_metal,
        [("? 0 : length - 1;", "? 0 : length;")],
        check_pooling,
    ),
    "no barrier before the norm is read": (
        pool_metal,
        [(f"= value;\n  {BARRIER}", "= value;\n")],
        check_pooling,
    ),
    "pooling divides by zero": (
        pool_metal,
        [
            ("else if (largest < SMALLEST) largest = INFINITY;", ""),
            ("(norm == 0.0f ? 1.0f : norm)", "norm"),
        ],
        check_pooling_of_zeros,
    ),
    "pooling adds up in half precision": (
        pool_metal,
        [
            ("float sum = 0.0f;\n  for (uint start", "T sum = T(0.0f);\n  for (uint start"),
            ("sum += part;", "sum = T(float(sum) + part);"),
            ("return sum;\n}\n", "return float(sum);\n}\n"),
        ],
        check_pooling_of_halves,
    ),
}
CHECKS = sorted({check for *_, check in MUTATIONS.values()}, key=lambda check: check.__name__)


@pytest.fixture(autouse=True)
def few_threads(emulated, monkeypatch):
    """Two SIMD groups are enough to go wrong, and 256 tokens exceed the capacity."""
    monkeypatch.setattr(sample_metal, "GROUPS", 2)
    monkeypatch.setattr("support.sampling_reference.GROUPS", 2)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check_passes_on_the_kernels_as_they_are(check):
    check()


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_found(name, monkeypatch):
    module, replacements, check = MUTATIONS[name]
    for old, new in replacements:
        parts = [part for part in ("_HEADER", "_BODY") if old in getattr(module, part)]
        assert parts, f"{old!r} is in the kernel no more"
        source = getattr(module, parts[0])
        monkeypatch.setattr(module, parts[0], source.replace(old, new))
    module.kernel().options = {"step_limit": 3 * 10**7}
    with pytest.raises((AssertionError, MetalFault)):
        check()
