"""Models that come and go in the engine process, through its pipes."""

from pathlib import Path

import pytest
from support import tiny
from support.dying_engine import run_dying_engine
from support.engine_process import EngineProcess, Mailbox, generate, serve_tiny

from mlxnode.config.tables import NodeConfig
from mlxnode.engine.suspicion import fingerprint_of
from mlxnode.messages.control import Loaded, LoadFailed, Models, Ping, Pong, Progress, Suspects
from mlxnode.messages.data import Abort, Done, Failed, Load, Tokens, Unload
from mlxnode.process.step_record import StepRecord


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("other"), seed=1)


def test_engine_loads_a_model_for_its_first_request_and_serves_others(
    start_engine, tiny_folder, tmp_path
):
    deep = tiny.make_chat_model(tmp_path / "deep", layers=48, hidden=64)  # many pieces
    engine = start_engine(
        serve_tiny(tiny_folder, context_length=4096),
        serve_tiny(deep, "other", preload=False),
    )
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1, max_tokens=4000))
    assert isinstance(worker.receive(), Tokens)
    assert [told.states for told in worker.states] == [{"tiny": "loaded", "other": "unloaded"}]
    worker.send(generate(2, model="other"))
    seen: list[str] = []  # by what comes: "states", or whose tokens
    while "2" not in seen:
        message = worker.receive()
        assert isinstance(message, Tokens)
        loading = worker.states[-1].states["other"] == "loading"
        seen += ["during" if loading else str(update.uid) for update in message.updates]
    assert seen.count("during") >= 5
    assert [told.states["other"] for told in worker.states] == ["unloaded", "loading", "loaded"]
    assert engine.control.receive() == Progress("", "other")
    assert engine.control.receive() == Loaded("other")
    worker.send(Abort(1))


def test_engine_answers_pings_between_the_pieces_of_a_load(
    start_engine, tiny_folder, other_folder
):
    engine = start_engine(serve_tiny(other_folder, "other", preload=False))
    engine.wait_ready()
    worker = engine.connect()
    worker.send(Load(1, "other", pin=True))
    worker.wait_for_state("other", "loading")
    states = set()
    while "loaded" not in states:
        engine.control.send(Ping(1))
        while not isinstance(message := engine.control.receive(), Pong):
            assert isinstance(message, Progress | Loaded)
        (figures,) = message.figures.models
        states.add(figures.state)
    assert states == {"loading", "loaded"}
    assert figures.is_pinned and figures.num_loads == 1 and figures.weight_bytes > 0
    assert worker.receive() == Done(1)
    worker.send(Unload(2, "other"))
    assert worker.receive() == Done(2)


def test_engine_unloads_an_idle_model_by_itself(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder, preload=False, idle_unload=0.2))
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1))
    assert len(worker.tokens(1)[1]) == 12
    worker.wait_for_state("tiny", "unloaded")
    worker.send(generate(2))
    assert len(worker.tokens(2)[2]) == 12


def test_engine_forgets_who_waited_for_a_model_and_left(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder, preload=False))
    engine.wait_ready()
    lost, other = engine.connect(), engine.connect()
    lost.send(generate(1))
    lost.pipe.close()
    other.send(generate(2))
    other.send(generate(3))
    other.send(Abort(3))
    assert len(other.tokens(2)[2]) == 12
    other.wait_for_state("tiny", "loaded")


def test_engine_takes_other_models_while_it_serves(start_engine, tiny_folder, other_folder):
    tiny_model, other = serve_tiny(tiny_folder), serve_tiny(other_folder, "other")
    engine = start_engine(tiny_model)
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1, max_tokens=300))
    worker.receive()
    engine.control.send(Models(models=[other], types={"other": "chat"}))
    assert sum(len(update.tokens) for update in worker.updates(1)[1]) >= 298
    worker.wait_for_state("other", "loaded")
    assert worker.states[-1].states == {"other": "loaded"}
    worker.send(generate(2))
    assert worker.receive() == Failed(2, "internal", "the engine cannot serve this request")
    worker.send(generate(3, model="other"))
    assert len(worker.tokens(3)[3]) == 12


def test_engine_keeps_suspects_apart_that_wait_for_their_model(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder, preload=False))
    engine.wait_ready()
    worker = engine.connect()
    prints = [fingerprint_of(generate(uid)) for uid in range(4)]
    engine.control.send(Suspects(prints[:1], prints[1:3], 1, prints[1:3]))
    engine.control.send(Ping(1))
    engine.control.receive()
    for uid in range(4):
        worker.send(generate(uid))
    refused = worker.receive()
    assert (refused.uid, refused.reason) == (0, "poisonous")
    last = {}
    for uid, updates in worker.updates(1, 2, 3).items():
        last[uid] = sum(len(update.tokens) for update in updates)
    assert last == {1: 12, 2: 12, 3: 12}


def test_engine_that_dies_of_a_model_leaves_its_name_and_no_step(tiny_folder, tmp_path):
    deadly = tiny.make_chat_model(tmp_path / "deadly", seed=2)
    (deadly / "deadly").touch()
    record = StepRecord()
    record.open()
    models = [serve_tiny(tiny_folder), serve_tiny(deadly, "deadly", preload=False)]
    engine = EngineProcess(NodeConfig(), models, run_dying_engine, record)
    try:
        engine.wait_ready()
        worker = engine.connect()
        worker.send(generate(1, max_tokens=400))
        worker.receive()
        assert record.read() == [fingerprint_of(generate(1, max_tokens=400))]
        worker.send(generate(2, model="deadly"))
        assert engine.control.receive() == Progress("", "deadly")
        assert engine.control.receive() is None
        assert record.read() == []
    finally:
        engine.stop()
        record.close()


def test_engine_reports_what_it_cannot_load_and_goes_on(start_engine, tiny_folder, tmp_path):
    broken = tiny.make_chat_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    engine = start_engine(serve_tiny(tiny_folder), serve_tiny(broken, "broken", preload=False))
    engine.wait_ready()
    worker: Mailbox = engine.connect()
    worker.send(generate(1, model="broken"))
    refusal = worker.receive()
    assert refusal.reason == "model" and refusal.message
    assert engine.control.receive() == Progress("", "broken")
    assert engine.control.receive() == LoadFailed({"broken": refusal.message})
    worker.send(generate(2))
    assert len(worker.tokens(2)[2]) == 12
