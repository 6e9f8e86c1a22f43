"""The pacing of prefill beside running rows."""

import pytest

from mlxnode.engine.pacing import PrefillPacing, Throughput


def test_pacing_sizes_chunks_by_the_time_they_take():
    pacing = PrefillPacing(stall_seconds=0.1)
    for _ in range(50):
        pacing.observe_chunk(500, 0.25)  # 2000 tokens a second
    assert pacing.chunk_size(num_running=8) == pytest.approx(200, abs=2)
    assert pacing.chunk_size(num_running=0) == Throughput.MAX_CHUNK
    for _ in range(50):
        pacing.observe_chunk(16, 10.0)
    assert pacing.chunk_size(num_running=8) == Throughput.MIN_CHUNK


def test_pacing_takes_as_long_as_a_slow_decode_step():
    pacing = PrefillPacing(stall_seconds=0.1)
    for _ in range(50):
        pacing.observe_chunk(100, 0.1)
        pacing.observe_step(0.3)
    assert pacing.chunk_size(num_running=8) == pytest.approx(300 * pacing.OF_A_STEP, abs=3)


def test_pacing_gives_more_time_when_many_prompts_wait():
    pacing = PrefillPacing(stall_seconds=0.1)
    for _ in range(50):
        pacing.observe_chunk(100, 0.1)
    sizes = [pacing.chunk_size(num_running=4, num_prompts=n) for n in (1, 2, 3, 5, 100)]
    assert sizes == pytest.approx([100, 100, 200, 400, 800], abs=8)
