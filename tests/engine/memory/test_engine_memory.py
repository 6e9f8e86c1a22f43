"""The memory of a whole engine process."""

import pytest
from support.engine_process import EngineProcess, generate, serve_tiny
from support.wired_engine import FILE, RECOMMENDED, run_wired_engine

from mlxnode.config.tables import EngineConfig, NodeConfig
from mlxnode.messages.control import Ping
from mlxnode.messages.data import Failed

pytestmark = pytest.mark.slow


def figures_of(engine: EngineProcess):
    engine.control.send(Ping(1))
    return engine.control.receive().figures


@pytest.mark.parametrize("wired_memory", ["off", "weights"])
def test_engine_wires_the_weights_once_and_no_request_does(
    tiny_folder, tmp_path, monkeypatch, wired_memory
):
    notes = tmp_path / "wired"
    notes.touch()
    monkeypatch.setenv(FILE, str(notes))
    config = NodeConfig(engine=EngineConfig(wired_memory=wired_memory, kernels="ops"))
    engine = EngineProcess(config, [serve_tiny(tiny_folder)], run_wired_engine)
    try:
        engine.wait_ready()
        worker = engine.connect()
        for uid in range(6):
            worker.send(generate(uid, prompt=100))
        worker.updates(*range(6))
        memory = figures_of(engine).memory
    finally:
        engine.stop()
    sizes = [int(line) for line in notes.read_text().split()]
    if wired_memory == "off":
        assert sizes == [0]  # at the end; nothing was wired
    else:
        weights, last = sizes
        assert 100_000 < weights < 1_000_000 < 0.9 * RECOMMENDED and last == 0
        assert memory.wired_limit == weights
    assert memory.limit == RECOMMENDED


def test_engine_reports_its_figures_with_a_pong(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder), serve_tiny(tiny_folder, "again"))
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1, prompt=100, max_tokens=20))
    worker.updates(1)
    worker.send(generate(1, prompt=100, max_tokens=20))  # the prompt is cached
    worker.updates(1)
    figures = figures_of(engine)
    first, again = figures.models
    assert (first.id, again.id) == ("tiny", "again")
    assert first.weight_bytes == again.weight_bytes > 100_000
    work = first.work
    assert work == again.work  # one runner serves both
    assert (work.prompt_tokens, work.cached_tokens, work.generated_tokens) == (200, 100, 40)
    assert (work.num_running, work.num_waiting, work.prefix_entries) == (0, 0, 1)
    memory = figures.memory
    assert memory.kv_claimed == work.prefix_bytes > 0
    assert memory.kv_total < memory.limit - memory.buffer_cache_limit
    assert memory.active <= memory.peak and memory.footprint > 10**7
    assert (memory.pressure, memory.wired_limit) == ("normal", 0)


def test_engine_refuses_with_numbers_what_its_memory_can_never_hold(start_engine, tiny_folder):
    engine = start_engine(serve_tiny(tiny_folder), kv_cache_gb=0.001)
    engine.wait_ready()
    worker = engine.connect()
    worker.send(generate(1, prompt=2000, max_tokens=3000))
    refusal = worker.receive()
    assert isinstance(refusal, Failed) and refusal.reason == "too_large"
    assert "2000 prompt tokens and an answer need 1.36 MB" in refusal.message
    worker.send(generate(2, prompt=5, max_tokens=5))
    assert len(worker.tokens(2)[2]) == 5
