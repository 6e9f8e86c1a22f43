"""The requests in flight of all workers, and the moments of the node."""

import pytest

from mlxnode.figures import (
    EngineFigures,
    MemoryFigures,
    ModelFigures,
    Moment,
    Rates,
    RequestFigures,
    RunnerFigures,
    TrafficFigures,
)
from mlxnode.messages.control import Cancel, Pong
from mlxnode.process.in_flight import RequestsInFlight
from mlxnode.process.moments import NUM_KEPT, Moments, moment_of


class FakeWorker:
    def __init__(self):
        self.is_ready, self.incarnation, self.sent = True, 1, []
        self.send = self.sent.append


def pong(*seconds: float, more: int = 0, worker: str = "a") -> Pong:
    requests = [
        RequestFigures(
            id=f"{worker}-{i}",
            request_id="r",
            key="k",
            path="/",
            model=None,
            state="preparing",
            seconds=second,
        )
        for i, second in enumerate(seconds)
    ]
    return Pong(1, num_requests=len(requests) + more, requests=requests)


@pytest.fixture
def workers() -> list[FakeWorker]:
    return [FakeWorker(), FakeWorker()]


@pytest.fixture
def in_flight(workers) -> RequestsInFlight:
    return RequestsInFlight(workers)


def test_the_oldest_requests_of_all_workers_come_first_and_all_are_counted(in_flight, workers):
    in_flight.note(workers[0], pong(3.0, 1.0, more=7))
    in_flight.note(workers[1], pong(2.0, worker="b"))
    assert [request.id for request in in_flight.oldest] == ["a-0", "b-0", "a-1"]
    assert in_flight.count == 10
    in_flight.note(workers[0], pong())
    assert [request.id for request in in_flight.oldest] == ["b-0"] and in_flight.count == 1


def test_a_list_of_requests_is_bounded(in_flight, workers):
    for i, worker in enumerate(workers):
        in_flight.note(worker, pong(*(float(i + 2 * n) for n in range(150)), worker=str(i)))
    assert in_flight.count == 300 and len(in_flight.oldest) == 200
    assert min(request.seconds for request in in_flight.oldest) == 100.0


def test_the_requests_of_a_worker_end_with_its_process(in_flight, workers):
    for worker in workers:
        in_flight.note(worker, pong(1.0))
    workers[0].is_ready = False
    assert in_flight.count == 1
    workers[0].is_ready, workers[0].incarnation = True, 2
    assert in_flight.count == 1 and len(in_flight.oldest) == 1
    in_flight.note(workers[0], pong(1.0, 2.0))
    assert in_flight.count == 3


def test_another_child_has_no_requests_and_all_workers_are_told_of_a_cancel(in_flight, workers):
    in_flight.note(FakeWorker(), pong(1.0))
    assert in_flight.count == 0
    in_flight.cancel(Cancel("a-1"))
    assert [worker.sent for worker in workers] == [[Cancel("a-1")]] * 2


def test_moments_are_one_a_second_and_the_last_is_the_latest():
    moments = Moments()
    for tick in range(7):  # twice a second, as the supervisor takes them
        moments.note(100 + tick * 0.5, Moment(running=tick))
    assert [moment.running for moment in moments.kept] == [1, 3, 5, 6]


def test_moments_of_an_uneven_pace_are_as_many_as_seconds():
    moments = Moments()
    for tick in range(100):
        moments.note(100 + tick * 0.6, Moment(running=tick))
    assert len(moments.kept) == 60


def test_moments_are_kept_for_two_minutes():
    moments = Moments()
    for second in range(500):
        moments.note(float(second), Moment(running=second))
    assert len(moments.kept) == NUM_KEPT
    assert [moment.running for moment in moments.kept[::119]] == [380, 499]


def test_a_moment_counts_work_that_two_ids_share_once():
    shared = RunnerFigures(num_running=2, num_waiting=1, num_background=1, prefix_bytes=5)
    own = RunnerFigures(num_running=1, generated_tokens=9)
    works = {"a": shared, "b": shared, "c": own}
    memory = MemoryFigures(
        limit=100,
        active=40,
        peak=50,
        buffer_cache=30,
        buffer_cache_limit=50,
        wired_limit=0,
        footprint=60,
        kv_total=20,
        kv_claimed=10,
        pressure="normal",
    )
    works |= {"d": own}  # the same numbers, by chance
    models = [
        ModelFigures(id=id, weight_bytes=1, work=work, same_as="a" if id == "b" else None)
        for id, work in works.items()
    ]
    traffic = TrafficFigures(
        seconds=60, rates=Rates(prompt=3.0, generated=4.0), keys=[], models=[]
    )
    moment = moment_of(EngineFigures(memory=memory, models=models), traffic, 8)
    assert (moment.running, moment.waiting, moment.background) == (4, 1, 1)
    assert (moment.prefix_bytes, moment.memory, moment.kv_claimed) == (5, 70, 10)
    assert (moment.prompt_tokens, moment.generated_tokens, moment.in_flight) == (3.0, 4.0, 8)
    without = moment_of(None, traffic, 0)
    assert (without.running, without.memory, without.first_token) == (0, 0, None)
