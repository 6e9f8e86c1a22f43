"""The arithmetic and the text of a fit verdict."""

import pytest

from mlxnode.models.fit import Activations, KVBytes, MemoryNeeds, Verdict, judge

MB = 1_000_000
KV = KVBytes(0, ((100, 2**62),) * 10)  # 10 layers, 1 kB a token
NEEDS = MemoryNeeds(
    weights=100 * MB,
    kv=KV,
    activations=(Activations(2048, 10 * MB, 0), Activations(8192, 20 * MB, 0)),
    kv_if_quantized=((8, KVBytes(0, ((500, 2**62),))), (4, KVBytes(0, ((250, 2**62),)))),
)


def verdict(free: int, context: int = 8192, *, is_configured: bool = True) -> Verdict:
    return judge(
        NEEDS,
        free * MB,
        context_length=context,
        max_batch_size=4,
        is_configured=is_configured,
    )


def test_kv_bytes_count_windows_states_and_steps():
    kv = KVBytes(7, ((10, 256), (1, 2**62)))
    assert kv.of(1) == 7 + 11 * 128
    assert kv.of(1000) == 7 + 10 * 256 + 1024


def test_needs_interpolate_activations_between_the_two_contexts():
    assert NEEDS.peak(1, 2048) == 110 * MB + KV.of(2048)
    assert NEEDS.peak(1, 5120) == 115 * MB + KV.of(5120)
    assert NEEDS.peak(1, 100_000) == 120 * MB + KV.of(100_000)


def test_needs_count_the_copy_of_a_layer_that_grows():
    slots = 2 * (KV.of(100_000) + KV.of(100_000) // 10)
    assert NEEDS.peak(2, 100_000) == 100 * MB + slots + KV.of(100_000)


def test_needs_count_slots_beside_the_cache_of_a_prompt():
    assert NEEDS.peak(6, 8192) == 120 * MB + (1 + 8) * KV.of(8192)


def test_needs_plan_more_than_the_peak_and_shorter_chunks_where_memory_is_scarce():
    own, slots = KV.of(8192 + 256), 4 * (KV.of(8192) + KV.of(8192) // 10)
    assert NEEDS.planned(4, 8192, 1000 * MB) == 120 * MB + own + slots
    assert NEEDS.planned(4, 8192, 140 * MB) == 110 * MB + own + slots
    assert NEEDS.planned(4, 8192, 1000 * MB) > NEEDS.peak(4, 8192)


@pytest.mark.parametrize(
    ("free", "rows", "max_context", "short"),
    [
        (200, 4, 8192, "yes"),
        (140, 2, 8192, "2 of 4 rows"),
        (120, 0, 6912, "no"),
        (90, 0, 0, "no"),
    ],
)
def test_judge_finds_the_rows_and_the_context_that_fit(free, rows, max_context, short):
    found = verdict(free)
    assert (found.rows, found.max_context, found.short) == (rows, max_context, short)
    assert found.rows == 0 or NEEDS.planned(found.rows, 8192, found.free) <= found.free
    assert found.rows == 4 or NEEDS.planned(found.rows + 1, 8192, found.free) > found.free
    assert found.fits == (max_context == 8192)


def test_judge_serves_a_long_native_context_as_far_as_it_fits():
    found = verdict(120, is_configured=False)
    assert found.fits and found.short == "6912 tokens"
    assert found.text.startswith("fits up to 6912 tokens of its 8192: ")
    assert not verdict(106, is_configured=False).fits  # not even 2,048
    assert verdict(106, context=512, is_configured=False).fits  # all that the model has


def test_verdict_says_what_would_fit():
    text = verdict(120).text
    assert "does not fit: one request of 8192 tokens needs 0.12 GB" in text
    assert "weights 0.10 GB" in text and "0.12 GB are free" in text
    assert "context_length = 6912 or kv_cache_bits = 8 or kv_cache_bits = 4" in text
    assert "kv_cache_bits = 8" not in verdict(116).text
    assert "no setting helps" in verdict(50).text


def test_verdict_on_a_model_without_a_kv_cache_has_no_rows():
    activations = Activations(512, 10 * MB, 0)
    needs = MemoryNeeds(100 * MB, KVBytes(), (activations, activations))
    found = judge(needs, 10**9, context_length=512, max_batch_size=1, is_configured=False)
    expected = "fits: needs 0.11 GB of 1.00 GB (weights 0.10 GB, computation 0.01 GB)"
    assert found.text == expected
