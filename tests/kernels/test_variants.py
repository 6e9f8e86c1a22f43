"""Variants of the kernels that do not compile or compute wrongly, and those of the others."""

import logging

import mlx.core as mx
import numpy as np
import pytest
from support.sampling_reference import RowCase, batch_of

from mlxnode.kernels import backend, pool_metal, sample_metal, sample_ops, variants
from mlxnode.kernels.pool import PoolingColumns
from mlxnode.kernels.variants import (
    CheckedKernels,
    PoolVariant,
    SampleVariant,
    check_variants,
    variants_of,
)

LOGITS = np.random.default_rng(0).normal(0, 2, 500).astype(np.float32)
PLAIN, EDITED = RowCase(LOGITS, top_p=0.9), RowCase(LOGITS, bias={3: 9.0})
HALVES = (mx.float16, mx.bfloat16)


@pytest.fixture(autouse=True)
def few_threads(emulated, monkeypatch):
    """Unchecked and with two SIMD groups: other tests look for races and bounds."""
    for module in (sample_metal, sample_ops):
        monkeypatch.setattr(module, "GROUPS", 2)
    monkeypatch.setattr(pool_metal, "THREADS", 64)
    for module in (sample_metal, pool_metal):
        module.kernel().options = {"checked": False}


def change_source(monkeypatch, module, old: str, new: str) -> None:
    assert old in module._HEADER + module._BODY
    for part in ("_HEADER", "_BODY"):
        monkeypatch.setattr(module, part, getattr(module, part).replace(old, new))
    module.kernel.cache_clear()


def break_kernel(monkeypatch, module, is_broken, message="no member named 'x'\nnote: here"):
    """Calls of the module's kernel with constants for which ``is_broken`` fail."""
    kernel = module.kernel()

    def call(*, template, **arguments):
        if is_broken(dict(template)):
            raise RuntimeError(message)
        return kernel(template=template, **arguments)

    call.runs = kernel.runs
    monkeypatch.setattr(module, "kernel", lambda: call)
    return kernel


def sampled_by_kernel(kernels, case: RowCase, dtype=mx.float32, num_tops: int = 0) -> bool:
    """True if the kernel sampled, False if operations did; the result is the same."""
    before = len(sample_metal.kernel().runs)
    result = batch_of([case] * 3, dtype).sample(kernels.sample, num_tops)
    expected = batch_of([case] * 3, dtype).sample(sample_ops.sample_ops, num_tops)
    assert result.tokens.tolist() == expected.tokens.tolist()
    assert mx.allclose(result.logprobs, expected.logprobs, atol=1e-4)
    return len(sample_metal.kernel().runs) > before


def pooled_by_kernel(kernels, *, normalize: bool) -> bool:
    before = len(pool_metal.kernel().runs)
    columns = PoolingColumns.of([2], ["mean"], [8])
    result = kernels.pool(mx.full((1, 2, 8), 3.0), columns, normalize=normalize)
    assert mx.allclose(result, mx.full((1, 8), 8**-0.5 if normalize else 3.0))
    return len(pool_metal.kernel().runs) > before


def test_variants_are_the_combinations_that_requests_can_need():
    assert len(variants_of(HALVES, [mx.float32])) == 2 * 4 + 2
    assert variants_of([mx.float32], []) == variants_of([mx.float32, mx.float32])
    assert [str(v) for v in variants_of([mx.bfloat16])] == [
        "sample(bfloat16)",
        "sample(bfloat16, tops)",
        "sample(bfloat16, edits)",
        "sample(bfloat16, edits, tops)",
    ]
    assert str(PoolVariant(mx.float16, True)) == "pool(float16, normalize)"


@pytest.mark.parametrize("dtype", [mx.float32, *HALVES], ids=str)
def test_check_finds_that_all_variants_work(dtype):
    results = check_variants([dtype], [dtype])
    assert [result.works for result in results] == [True] * 6
    assert [result.error for result in results] == [""] * 6
    assert all(result.seconds > 0 for result in results)


def test_check_compiles_all_that_requests_use():
    check_variants([mx.float32], [mx.float32])
    warm = {run.source for m in (sample_metal, pool_metal) for run in m.kernel().runs}
    kernels = CheckedKernels(is_strict=True)
    mask = np.arange(500) % 2 == 0
    cases = [PLAIN, EDITED, RowCase(LOGITS, mask=mask), RowCase(LOGITS, temperature=0.0)]
    for case in (*cases, RowCase(LOGITS, counts={5: 2}, frequency=0.5)):
        for num_tops in (0, 1, 5, 20):
            assert sampled_by_kernel(kernels, case, num_tops=num_tops)
    for normalize in (True, False):
        assert pooled_by_kernel(kernels, normalize=normalize)
    used = {run.source for m in (sample_metal, pool_metal) for run in m.kernel().runs}
    assert used == warm


@pytest.mark.parametrize(
    "broken", [{"EDITS": True}, {"TOPS": 20}, {"TOPS": 20, "EDITS": False}]
)
def test_operations_replace_a_broken_variant_and_no_other(monkeypatch, broken):
    break_kernel(
        monkeypatch, sample_metal, lambda constants: broken.items() <= constants.items()
    )
    kernels = CheckedKernels(is_strict=False)
    kernels.warm(sampling=[mx.float32], pooling=[mx.float32])
    for case, edits in ((PLAIN, False), (EDITED, True)):
        for num_tops, tops in ((0, 0), (7, 20)):
            is_broken = broken.items() <= {"EDITS": edits, "TOPS": tops}.items()
            assert sampled_by_kernel(kernels, case, num_tops=num_tops) != is_broken
    assert pooled_by_kernel(kernels, normalize=True)


def test_operations_replace_one_dtype_and_no_other(monkeypatch):
    break_kernel(monkeypatch, sample_metal, lambda constants: constants["T"] == mx.bfloat16)
    kernels = CheckedKernels(is_strict=False)
    assert sampled_by_kernel(kernels, PLAIN, mx.float16)
    assert not sampled_by_kernel(kernels, PLAIN, mx.bfloat16)


def test_sampling_stays_where_pooling_fails(monkeypatch):
    break_kernel(monkeypatch, pool_metal, lambda constants: constants["NORMALIZE"])
    kernels = CheckedKernels(is_strict=False)
    kernels.warm(sampling=[mx.float32], pooling=[mx.float32])
    assert not pooled_by_kernel(kernels, normalize=True)
    assert pooled_by_kernel(kernels, normalize=False)
    assert sampled_by_kernel(kernels, PLAIN)


def test_a_broken_variant_is_one_line_and_its_compiler_output_debug(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "mlxnode.kernels")
    break_kernel(monkeypatch, sample_metal, lambda constants: constants["EDITS"])
    kernels = CheckedKernels(is_strict=False)
    kernels.warm(sampling=[mx.float32])
    kernels.warm(sampling=[mx.float32])  # a second model
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [
        f"operations replace the Metal kernel sample(float32, edits{tops}): no member named 'x'"
        for tops in ("", ", tops")
    ]
    details = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]
    assert len(details) == 2
    assert all("note: here" in text for text in details)


def test_strict_names_the_variant_that_does_not_work(monkeypatch):
    monkeypatch.setattr(backend, "_has_metal", lambda: True)
    break_kernel(monkeypatch, pool_metal, lambda constants: not constants["NORMALIZE"])
    kernels = backend.choose("metal")
    kernels.warm(sampling=[mx.float16])
    with pytest.raises(
        backend.BackendError, match=r"\[engine\] kernels: .*pool\(float16\) .*'x'"
    ):
        kernels.warm(pooling=[mx.float16])


# What a compiler or a driver might get wrong, as a change of the source.
WRONG = {
    "another token": ("tokens[index] = int(token)", "tokens[index] = int(token) + 1"),
    "the logarithm": ("precise::log(max", "precise::log2(max"),
    "the mask": ("mask[i / 32] >> (i % 32)", "~0u"),
    "the bias": ("x += biases[low];", ""),
    "a penalty": ("x -= float(count) * frequency + presence", "x -= float(count) * frequency"),
    "another penalty": ("x > 0.0f ? x / repetition : x * repetition", "x"),
    "the top": ("top_logprobs[output] = (float", "top_logprobs[output] = 1.0f + (float"),
    "top-k": ("rank_before < rank &&", "rank_before + 30 < rank &&"),
    "top-p": ("mass_before < mass &&", "mass_before < 0.1f * mass &&"),
    "the random numbers": ("i < 10; i++", "i < 9; i++"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_check_notices_wrong_results(monkeypatch, fault):
    change_source(monkeypatch, sample_metal, *WRONG[fault])
    result = variants.check_variant(SampleVariant(mx.float32, True, True))
    assert not result.works
    assert result.error


@pytest.mark.parametrize("normalize", [True, False])
def test_check_notices_wrong_pooling(monkeypatch, normalize):
    change_source(monkeypatch, pool_metal, "last, D)", "L, D)")
    assert not variants.check_variant(PoolVariant(mx.float32, normalize)).works


def test_check_of_a_sampling_variant_uses_what_it_is_for():
    for edits in (False, True):
        for tops in (False, True):
            SampleVariant(mx.float32, edits, tops).check()
            constants = f"<float, {int(edits)}, {20 if tops else 0}>"
            assert constants in sample_metal.kernel().runs[-1].source
