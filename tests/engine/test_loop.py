"""The engine process, through its pipes."""

import os
import signal
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest
from support.engine_process import Mailbox, generate, serve_tiny

from mlxnode.messages.control import Fatal, Ping, Ready
from mlxnode.messages.data import Abort, Embed, Embedded, Failed, Sampling


def test_engine_serves_several_workers_at_once(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder))
    engine.wait_ready()
    workers = [engine.connect() for _ in range(3)]
    for worker in workers:
        for uid in range(4):
            worker.send(generate(uid))
    answers = [worker.tokens(0, 1, 2, 3) for worker in workers]
    assert answers[0] == answers[1] == answers[2]
    assert all(len(tokens) == 12 for tokens in answers[0].values())


def test_engine_sends_one_message_a_step_to_a_worker(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder))
    engine.wait_ready()
    worker = engine.connect()
    for uid in range(8):
        worker.send(generate(uid, max_tokens=100))
    updates, messages = 0, 0
    while updates < 800:
        updates += len(worker.receive().updates)
        messages += 1
    assert messages <= 100 + 8  # while the eight join, fewer than eight share a message


def test_engine_abort_ends_a_request_and_frees_its_row(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder), max_batch_size=1)
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1, max_tokens=450))
    worker.send(generate(2))
    worker.receive()
    worker.send(Abort(1))
    after = worker.updates(2)
    assert len(after.get(1, [])) < 400
    assert sum(len(update.tokens) for update in after[2]) == 12


def test_engine_drops_the_requests_of_a_worker_that_is_gone(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder), max_batch_size=1)
    engine.wait_ready()
    lost, other = engine.connect(), engine.connect()
    lost.send(generate(1, max_tokens=450))
    lost.receive()
    other.send(generate(2))
    lost.pipe.close()
    assert len(other.tokens(2)[2]) == 12


def test_engine_refuses_what_it_cannot_serve_and_goes_on(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder), max_queue_size=1, max_batch_size=1)
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1, model="unknown"))
    assert worker.receive().reason == "internal"
    worker.send(generate(2, prompt=0))
    assert worker.receive().reason == "internal"
    uids = set(range(3, 40))
    for uid in uids:
        worker.send(generate(uid, max_tokens=100))
    served, refused = set(), set()
    while served | refused != uids:
        message = worker.receive()
        if isinstance(message, Failed):
            assert message.reason == "overloaded"
            refused.add(message.uid)
        else:
            served |= {update.uid for update in message.updates if update.finish}
    assert 3 in served
    assert refused


def test_engine_answers_pings_and_leaves_at_stop(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder))
    engine.wait_ready()
    engine.control.send(Ping(7))
    assert engine.control.receive().sequence == 7
    os.kill(engine.process.pid, signal.SIGINT)  # as a terminal would
    engine.control.send(Ping(8))
    assert engine.control.receive().sequence == 8
    engine.stop()
    assert engine.process.exitcode == 0


def test_engine_leaves_when_the_supervisor_is_gone(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder))
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1, max_tokens=400))
    engine.control.pipe.close()
    engine.process.join(10)
    assert engine.process.exitcode is not None


def test_engine_reports_a_model_it_cannot_load(start_engine, tmp_path, tiny_folder):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((tiny_folder / "config.json").read_text())
    engine = start_engine(serve_tiny(broken, "mine"), serve_tiny(tiny_folder))
    while not isinstance(message := engine.control.receive(), Ready):
        assert message is not None
    assert list(message.failed) == ["mine"] and str(broken) in message.failed["mine"]
    worker = engine.connect()
    worker.send(generate(1))
    assert len(worker.tokens(1)[1]) == 12


def test_engine_serves_chat_and_embeddings_in_turn(start_engine, tiny_folder, demo_embedding):
    embedding = serve_tiny(
        demo_embedding, "embedding", type="embedding", architecture="bert", dimensions=384
    )
    engine = start_engine(serve_tiny(tiny_folder), embedding)
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1, max_tokens=300))
    for uid in range(10, 14):
        inputs = [[101, 2000 + uid, 102], [101, 102]]
        worker.send(Embed(uid=uid, model="embedding", inputs=inputs))
    vectors, tokens = {}, 0
    while len(vectors) < 4 or tokens < 300:
        message = worker.receive()
        if hasattr(message, "vectors"):
            vectors[message.uid] = message.vectors
            assert len(message.vectors) == 2 * 4 * 384
        else:
            tokens += sum(len(update.tokens) for update in message.updates)
    assert len(set(vectors.values())) == 4


def test_engine_computes_the_background_behind_all_others(
    start_engine, tiny_folder, demo_embedding
):
    embedding = serve_tiny(
        demo_embedding, "embedding", type="embedding", architecture="bert", dimensions=384
    )
    engine = start_engine(serve_tiny(tiny_folder), embedding)
    engine.wait_ready()
    batches, worker = engine.connect(), engine.connect()
    inputs = [[101, 2000 + i, 102] for i in range(64)]
    for uid in range(4):
        batches.send(generate(uid, max_tokens=400, background=True))
        batches.send(Embed(uid=10 + uid, model="embedding", inputs=inputs, background=True))
    first = batches.receive()  # they have begun
    tokens = worker_tokens(worker, 1, 60)
    worker.send(Embed(uid=2, model="embedding", inputs=inputs[:1]))
    embedded = worker.receive()
    assert embedded.timing.queued >= 0 < embedded.timing.computed
    timings, vectors, ended = {}, {}, {}
    messages = [first]
    while len(vectors) < 4 or len(ended) < 4:
        message = messages.pop() if messages else batches.receive()
        if isinstance(message, Embedded):
            vectors[message.uid] = message
            continue
        for update in message.updates:
            ended |= {update.uid: update.finish} if update.finish else {}
            timings |= {update.uid: update.timing} if update.timing else {}
    assert set(timings) == set(ended) == {0, 1, 2, 3}
    first, *others = [np.frombuffer(each.vectors, "<f4") for each in vectors.values()]
    assert all(np.allclose(first, other, rtol=0, atol=1e-4) for other in others)
    assert tokens == worker_tokens(worker, 1, 60)  # the same as on an idle engine


def worker_tokens(worker: Mailbox, uid: int, count: int) -> list[int]:
    worker.send(generate(uid, max_tokens=count))
    return worker.tokens(uid)[uid]


@pytest.mark.slow
def test_engine_modules_never_import_sanic():
    code = "import sys, mlxnode.engine.main; sys.exit('sanic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_engine_seeded_request_is_reproducible(start_engine, tiny_folder, seed):
    engine = start_engine(serve_tiny(tiny_folder))
    engine.wait_ready()
    worker = engine.connect()
    sampling = Sampling(temperature=1.5, seed=seed)
    for uid in (1, 2):
        worker.send(generate(1, sampling=sampling) if uid == 1 else generate(2))
    first = worker.tokens(1, 2)[1]
    worker.send(generate(1, sampling=sampling))
    assert worker.tokens(1)[1] == first


@pytest.mark.skipif(mx.metal.is_available(), reason="there is a Metal device")
def test_engine_reports_kernels_that_cannot_run(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder), kernels="metal")
    while not isinstance(message := engine.control.receive(), Fatal):
        assert message is not None
    assert "[engine] kernels" in message.message
