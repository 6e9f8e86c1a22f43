"""Memory is back at the level before after models were loaded and unloaded ten times."""

import mlx.core as mx
import pytest
from support import tiny
from support.engine_process import generate, serve_tiny
from support.gguf_files import CASES, make_model, write_model
from support.residence import Residence

from mlxnode.footprint import footprint
from mlxnode.messages.data import Done, Embed, Embedded, Sampling, Unload
from mlxnode.models.gguf.folder import model_folder

CYCLES = 10
# Bytes that the process may grow in ten cycles, of models with 30 MB each: allocators keep
# pages. One that stays would be 270 MB.
MAX_GROWTH = 60_000_000


def serve_text(folder):
    return serve_tiny(tiny.make_chat_model(folder, hidden=512, layers=3), preload=False)


def serve_gguf(folder):
    case = CASES["llama"]
    source, config = make_model(case, folder / "source")
    file = write_model(folder / "m.gguf", case, source, config, folder / "source")
    return serve_tiny(model_folder(file), weights=file, preload=False)


def serve_embedding(folder):
    folder = tiny.make_embedding_model(folder / "bert")
    facts = {"type": "embedding", "architecture": "bert", "dimensions": 16}
    return serve_tiny(folder, preload=False, **facts)


@pytest.mark.long
@pytest.mark.parametrize("serve", [serve_text, serve_gguf, serve_embedding])
def test_ten_cycles_leave_the_memory_as_it_was(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    engine = Residence(serve(tmp_path))
    levels = []
    for cycle in range(1 + CYCLES):  # the first one imports and compiles
        if serve is serve_embedding:
            answer = engine.ask(Embed(uid=cycle, model="tiny", inputs=[[0, 40, 50, 2]]))
            assert isinstance(answer, Embedded)
        else:
            sampling = Sampling(temperature=0.0, grammar='{"grammars": [{"json_schema": {}}]}')
            engine.send(generate(100 + cycle, sampling=sampling))
            engine.ask(generate(cycle))
            assert len(engine.tokens[cycle]) == 12
        assert mx.get_active_memory() > 10_000 and engine.loaded == ["tiny"]
        assert engine.ask(Unload(1000 + cycle, "tiny")) == Done(1000 + cycle)
        levels.append((mx.get_active_memory(), footprint()))
    assert len({active for active, _ in levels[1:]}) == 1, levels
    assert mx.get_cache_memory() == 0
    assert levels[-1][1] - levels[1][1] < MAX_GROWTH, levels
    assert engine.residency.figures()[0].num_loads == 1 + CYCLES
