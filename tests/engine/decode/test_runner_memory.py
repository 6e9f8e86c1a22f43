"""The memory of real runners under random loads, by MLX's own peak."""

import random

import mlx.core as mx
import pytest
from support.running import make, make_runner, step

from mlxnode.engine.decode.activations import Activations, _peak, measure_activations
from mlxnode.messages.data import Failed

BATCH = 6
CONTEXT = 512


@pytest.fixture
def no_buffer_cache():
    mx.synchronize()
    before = mx.set_cache_limit(0)
    yield
    mx.set_cache_limit(before)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("seed", "step_of_answers"), [(0, 512), (1, 512), (2, 16), (3, 16)])
def test_runner_stays_below_its_memory_under_a_random_load(
    model_of, no_buffer_cache, seed, step_of_answers
):
    model, chosen = model_of(64), random.Random(seed)
    budget = 6_000_000  # about four of the longest sequences, with their copies
    runner = make_runner(
        model, budget=budget, max_batch_size=BATCH, num_speculative_tokens=4 * (seed % 2)
    )
    runner._scheduler._answer_step = step_of_answers
    activations = runner.reserve_activations(2_000_000, CONTEXT)
    shared = [7] * 100
    waiting = []
    for uid in range(40):
        request = make(uid, prompt=chosen.randint(1, 250), max_tokens=chosen.randint(1, 200))
        if chosen.random() < 0.4:
            request.prompt[:0] = shared[: chosen.randint(1, 100)]
        waiting.append(request)
    mx.synchronize()
    base = mx.get_active_memory()
    mx.reset_peak_memory()
    ended, largest = 0, 0
    while waiting or runner.has_work:
        while waiting and chosen.random() < 0.3:
            assert runner.add_request(waiting.pop()) is None
        for output in step(runner):
            assert not isinstance(output.message, Failed), output
            ended += output.is_last
        largest = max(largest, runner.num_running)
    peak = mx.get_peak_memory() - base
    # Here the buffers of tasks in flight, not freed yet, are large beside the whole: by chance,
    # and with more small operations where an earlier test has installed the CPU's functions.
    assert peak <= 1.1 * (budget + activations)
    assert peak > 0.3 * budget and largest > 2  # the load is not a light one
    assert ended == 40


@pytest.mark.parametrize("bits", [None, 8])
def test_activations_bound_a_longer_pass(model_of, bits):
    model = model_of(64)
    activations = measure_activations(model, bits)
    assert activations.per_token > 0 and activations.per_row > 0
    for tokens, context in ((200, 0), (100, 500), (200, 2000)):
        peak = _peak(model, bits, tokens, context)
        estimate = activations.of(tokens, context)
        # Buffers of up to 110 tasks in flight are not freed yet: more or fewer, by chance.
        assert peak < 1.6 * estimate and estimate < 3 * peak


def test_activations_limit_the_chunk_by_the_scores():
    activations = Activations(fixed=0, per_token=10, per_score=1)
    for context, longest in ((0, 100), (90, 10)):
        size = activations.of(longest, context)
        assert activations.max_tokens(size + 1, context) == longest
        assert activations.max_tokens(size // 2, context) in (longest // 2 - 1, longest // 2)
    assert activations.max_tokens(1, 90) == 1
