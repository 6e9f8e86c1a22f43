"""What a runner tells about the time before the first token."""

import time

from support.engine_process import generate
from support.running import make, make_runner, step, updates

from mlxnode.engine.work import RequestKey
from mlxnode.messages.data import Update


def test_first_update_alone_has_the_timing(model):
    request = make(0, max_tokens=5)
    found = updates(make_runner(model), request)
    assert [update.timing is not None for update in found] == [
        True,
        *[False] * (len(found) - 1),
    ]


def test_queued_ends_when_the_prefill_begins_and_computed_at_the_first_token(model):
    runner = make_runner(model, max_batch_size=1)
    first, second = make(0, max_tokens=8), make(1, max_tokens=2)
    runner.add_request(first)
    runner.add_request(second)
    started_at, outputs = time.monotonic(), []
    while second.started_at is None:
        outputs += step(runner)
    waited = time.monotonic() - started_at
    while runner.has_work:
        outputs += step(runner)
    timings = {o.message.uid: o.message.timing for o in outputs if o.message.timing}
    assert 0 <= timings[0].queued < timings[1].queued <= waited + 0.1
    assert timings[1].queued == second.started_at - second.arrived_at
    assert all(timing.computed > 0 for timing in timings.values())


def test_a_row_that_was_lost_keeps_its_first_start(model):
    runner = make_runner(model)
    request = make(0, max_tokens=30)
    runner.add_request(request)
    outputs = [*step(runner), *step(runner)]
    started_at = request.started_at
    assert started_at is not None
    outputs += runner._read()
    runner._set_aside([request])
    del runner._scheduler._admitted[request.key]
    runner._scheduler._waiting.put_back(request)
    while runner.has_work:
        outputs += step(runner)
    assert request.is_resumed and request.started_at == started_at
    assert sum(output.message.timing is not None for output in outputs) == 1


def test_queued_counts_from_the_arrival_that_the_engine_names(model):
    runner = make_runner(model)
    arrived_at = time.monotonic() - 100
    runner.add(RequestKey(1, 0), generate(0), arrived_at)
    first = next(o.message for o in step_until_output(runner) if isinstance(o.message, Update))
    assert 100 <= first.timing.queued < 160


def step_until_output(runner):
    while not (outputs := step(runner)):
        assert runner.has_work
    return outputs
