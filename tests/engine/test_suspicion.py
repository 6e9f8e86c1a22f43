"""The engine tells what it works on, and runs suspects as the supervisor says."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.engine_process import EngineProcess, generate, serve_tiny
from support.failing_engine import POISON, run_failing_engine

from mlxnode.config.tables import EngineConfig, NodeConfig
from mlxnode.engine.suspicion import Suspicion, fingerprint_of
from mlxnode.engine.work import RequestKey
from mlxnode.messages.control import Cleared, Ping, Pong, StepFailed, Suspects
from mlxnode.messages.data import Abort, Embed, Failed, Sampling
from mlxnode.process.step_record import StepRecord


def test_fingerprints_tell_requests_apart_and_not_their_senders():
    first = generate(1)
    again = msgspec.structs.replace(first, uid=9, key="another", weight=2.0, priority=3, call=8)
    assert fingerprint_of(first) == fingerprint_of(again)
    others = [
        generate(1, prompt=11),
        generate(1, max_tokens=13),
        generate(1, sampling=Sampling(temperature=0.5)),
        generate(1, model="other"),
        Embed(uid=1, model="tiny", inputs=[first.prompt]),
    ]
    assert len({fingerprint_of(each) for each in (first, *others)}) == len(others) + 1


def test_suspicion_records_the_requests_of_a_step():
    record = StepRecord()
    record.open()
    suspicion = Suspicion(record)
    keys = [RequestKey(1, uid) for uid in range(3)]
    for key in keys:
        assert suspicion.add(key, generate(key.uid))
    suspicion.note(keys[:2])
    assert record.read() == [fingerprint_of(generate(uid)) for uid in (0, 1)]
    suspicion.forget(keys[0])
    suspicion.note(keys[:1])
    assert record.read() == []  # it has ended
    suspicion.note(keys[2:])
    suspicion.note(())
    assert record.read() == []
    record.close()


def test_suspicion_lets_as_many_of_the_quarantined_run_as_it_may():
    suspicion = Suspicion(None)
    messages = {RequestKey(1, uid): generate(uid) for uid in range(6)}
    prints = [fingerprint_of(message) for message in messages.values()]
    suspicion.learn(Suspects([], prints[:5], 2, prints[:5]))
    held = []
    for key, message in messages.items():
        assert suspicion.add(key, message)
        held.append(suspicion.hold(key, message))
    assert held == [False, False, True, True, True, False]
    assert suspicion.release() is None
    keys = list(messages)
    assert suspicion.forget(keys[3]) == prints[3]  # its client has left
    assert suspicion.release() is None
    assert suspicion.forget(keys[0]) == prints[0]
    assert suspicion.release() == (keys[2], messages[keys[2]])
    assert suspicion.release() is None
    assert suspicion.forget(keys[5]) is None  # nobody watches it


def test_quarantine_of_the_background_holds_up_no_request_in_the_foreground():
    suspicion, first, last = Suspicion(None), RequestKey(1, 0), RequestKey(1, 3)
    messages = {RequestKey(1, uid): generate(uid, background=uid < 3) for uid in range(4)}
    prints = [fingerprint_of(message) for message in messages.values()]
    suspicion.learn(Suspects([], prints, 1, prints))
    held = {}
    for key, message in messages.items():
        assert suspicion.refusal(key, message) is None
        held[key.uid] = suspicion.hold(key, message)
    assert held == {0: False, 1: True, 2: True, 3: False}
    suspicion.forget(last)
    assert suspicion.release() is None  # one of the background runs
    suspicion.forget(first)
    assert suspicion.release() == (RequestKey(1, 1), messages[RequestKey(1, 1)])
    assert suspicion.release() is None


def test_full_quarantine_of_the_background_refuses_no_request_in_the_foreground(monkeypatch):
    monkeypatch.setattr("mlxnode.engine.suspicion.MAX_HELD", 2)
    suspicion = Suspicion(None)
    behind = {RequestKey(1, uid): generate(uid, background=True) for uid in range(4)}
    suspicion.learn(Suspects([], list(map(fingerprint_of, behind.values())), 1, []))
    refusals = []
    for key, message in behind.items():
        refusals.append(suspicion.refusal(key, message))
        if refusals[-1] is None:
            suspicion.hold(key, message)
    assert [refusal and refusal.reason for refusal in refusals] == [
        *(None, None, None),
        "overloaded",
    ]
    assert suspicion.refusal(RequestKey(1, 9), generate(9)) is None


@pytest.fixture
def engine(tiny_folder: Path) -> Iterator[EngineProcess]:
    config = NodeConfig(engine=EngineConfig())
    process = EngineProcess(config, [serve_tiny(tiny_folder)], run_failing_engine)
    process.wait_ready()
    yield process
    process.stop()


def tell(engine: EngineProcess, suspects: Suspects) -> None:
    """Wait until the engine knows: its pipes to workers are others, and may be faster."""
    engine.control.send(suspects)
    engine.control.send(Ping(1))
    assert isinstance(engine.control.receive(), Pong)


def poison(uid: int, *rest: int):
    message = generate(uid)
    return msgspec.structs.replace(message, prompt=[POISON, *rest])


@pytest.mark.slow
def test_engine_reports_a_failed_step_and_refuses_its_request_when_told(engine):
    worker = engine.connect()
    worker.send(poison(1, 5))
    failed = worker.receive()
    assert isinstance(failed, Failed) and failed.reason == "internal"
    fingerprint = fingerprint_of(poison(1, 5))
    assert engine.control.receive() == StepFailed([fingerprint])
    tell(engine, Suspects([fingerprint], [], 1, []))
    worker.send(generate(2))
    assert len(worker.tokens(2)[2]) == 12
    worker.send(poison(3, 5))
    refused = worker.receive()
    assert isinstance(refused, Failed) and refused.reason == "poisonous"
    worker.send(generate(4))
    assert len(worker.tokens(4)[4]) == 12


@pytest.mark.slow
def test_engine_runs_the_quarantined_one_by_one_and_clears_them(engine):
    worker = engine.connect()
    prints = [fingerprint_of(generate(uid, max_tokens=100)) for uid in (1, 2, 3)]
    tell(engine, Suspects([], prints, 1, prints))
    for uid in (1, 2, 3):
        worker.send(generate(uid, max_tokens=100))
    worker.send(generate(4, max_tokens=20))  # not suspected: it waits for none of them
    order: list[int] = []
    while len(order) < 4 or not {1, 2, 3} <= set(order):
        for update in worker.receive().updates:
            if update.finish:
                order.append(update.uid)
    assert order.index(1) < order.index(2) < order.index(3)
    assert order.index(4) < order.index(2)
    assert [engine.control.receive() for _ in range(3)] == [Cleared(each) for each in prints]


@pytest.mark.slow
def test_engine_runs_a_suspect_while_one_in_the_background_stands_still(engine):
    worker = engine.connect()
    prints = [fingerprint_of(generate(uid, max_tokens=uid)) for uid in (400, 300, 20)]
    tell(engine, Suspects([], prints, 1, []))
    for uid in (400, 300):
        worker.send(generate(uid, max_tokens=uid, background=True))
    ended, counts = [], Counter()
    while len(ended) < 3:
        for update in worker.receive().updates:
            if not counts:  # the first is computed
                worker.send(generate(20, max_tokens=20))
            counts[update.uid] += len(update.tokens)
            ended += [update.uid] if update.finish else []
    assert ended == [20, 400, 300]
    assert counts == {20: 20, 400: 400, 300: 300}


@pytest.mark.slow
def test_engine_drops_a_held_request_whose_client_leaves(engine):
    worker = engine.connect()
    prints = [fingerprint_of(generate(uid, max_tokens=200)) for uid in (1, 2, 3)]
    tell(engine, Suspects([], prints, 1, []))
    for uid in (1, 2, 3):
        worker.send(generate(uid, max_tokens=200))
    worker.send(Abort(2))
    worker.receive()
    worker.send(Abort(1))
    assert set(worker.updates(3)) <= {1, 3}


@pytest.mark.slow
def test_engine_ends_after_steps_that_fail_in_a_row(engine):
    worker = engine.connect()
    for uid in range(3):
        worker.send(poison(uid, uid))
        if uid < 2:
            assert worker.receive().reason == "internal"
    engine.process.join(60)
    assert engine.process.exitcode not in (None, 0)
