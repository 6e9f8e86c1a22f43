"""Models are opened once, a few at a time, and forgotten with their last request."""

import asyncio
import dataclasses
import gc
import json
import threading
import weakref

import pytest
from support import tiny

from mlxnode.footprint import footprint
from mlxnode.messages.data import ModelStates
from mlxnode.models.served import ServedModel
from mlxnode.server.errors import ModelFailed
from mlxnode.server.registry.opened import RerankModel
from mlxnode.server.registry.opener import Opener
from mlxnode.server.registry.registry import Registry

TIMEOUT = 20  # seconds


class Gate:
    """What opens models here: it waits until the test lets it go on."""

    def __init__(self):
        self.calls: list[ServedModel] = []
        self.num_running = self.most = 0
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._started = threading.Semaphore(0)
        self._leave = threading.Event()

    def __call__(self, served: ServedModel) -> RerankModel:
        with self._lock:
            self.calls.append(served)
            self.num_running += 1
            self.most = max(self.most, self.num_running)
        self._started.release()
        assert self._leave.wait(TIMEOUT)
        with self._lock:
            self.num_running -= 1
        if self.error is not None:
            raise self.error
        return RerankModel(served, None, None)

    async def started(self, count: int = 1) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self._started.acquire, timeout=TIMEOUT)

    def open(self) -> "Gate":
        self._leave.set()
        return self


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


async def test_a_model_is_opened_once_for_all_who_wait(gate, served_models):
    opener = Opener(gate)
    waiting = [asyncio.create_task(opener.open(served_models[0])) for _ in range(5)]
    await gate.started()
    gate.open()
    opened = await asyncio.gather(*waiting)
    assert len({id(model) for model in opened}) == len(gate.calls) == 1
    assert await opener.open(served_models[0]) is opened[0] and len(gate.calls) == 1


async def test_only_a_few_are_opened_at_once(gate, served_models):
    opener = Opener(gate)
    models = [dataclasses.replace(served_models[0], id=f"m{at}") for at in range(6)]
    waiting = [asyncio.create_task(opener.open(model)) for model in models]
    await gate.started(2)
    gate.open()
    await asyncio.gather(*waiting)
    assert len(gate.calls) == 6 and gate.most == 2


async def test_a_caller_that_leaves_cancels_no_opening(gate, served_models):
    opener = Opener(gate)
    first, second = (asyncio.create_task(opener.open(served_models[0])) for _ in range(2))
    await gate.started()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.open()
    assert (await second).served is served_models[0]


async def test_a_failure_is_kept_until_somebody_asks_to_try_again(gate, served_models):
    gate.open().error = ValueError("what a file")
    opener = Opener(gate)
    for _ in range(2):
        with pytest.raises(ModelFailed, match="what a file"):
            await opener.open(served_models[0])
    assert len(gate.calls) == 1
    opener.try_again("tiny-chat")
    gate.error = None
    assert await opener.open(served_models[0])


async def test_a_failure_is_tried_again_after_a_while(gate, served_models):
    gate.open().error = ValueError("what a file")
    opener = Opener(gate, retry_after=0.0)
    for count in (1, 2):
        with pytest.raises(ModelFailed):
            await opener.open(served_models[0])
        assert len(gate.calls) == count and "what a file" in opener.failed["tiny-chat"]
    gate.error = None
    assert await opener.open(served_models[0]) and not opener.failed


async def test_a_shortage_fails_the_request_and_not_the_model(gate, served_models):
    gate.open().error = MemoryError()
    opener = Opener(gate)
    with pytest.raises(MemoryError):
        await opener.open(served_models[0])
    gate.error = None
    assert not opener.failed and await opener.open(served_models[0])


async def test_what_is_forgotten_while_it_is_opened_is_not_kept(gate, served_models):
    """Neither as open nor as failed: a new configuration has a model of its own."""
    opener = Opener(gate)
    old, new = served_models[0], dataclasses.replace(served_models[0], context_length=7)
    first = asyncio.create_task(opener.open(old))
    await gate.started()
    opener.forget(old.id)
    second = asyncio.create_task(opener.open(new))
    await gate.started()
    gate.open()
    assert (await first).served is old and (await second).served is new
    assert (await opener.open(new)).served is new


async def test_a_request_that_waits_gets_the_model_as_it_is_by_then(gate, served_models):
    registry = Registry(served_models)
    registry.opener = Opener(gate)
    waiting = asyncio.create_task(registry.find_any("tiny-chat"))
    await gate.started()
    new = dataclasses.replace(served_models[0], context_length=7)
    registry.catalog.described["tiny-chat"] = new
    registry.opener.forget("tiny-chat")
    gate.open()
    assert (await waiting).served is new


async def test_few_models_stay_open_that_the_engine_does_not_hold(gate, served_models):
    models = [dataclasses.replace(served_models[0], id=f"m{at}") for at in range(8)]
    registry = Registry(models)
    registry.opener = Opener(gate.open())
    registry.note_states(ModelStates({m.id: "unloaded" for m in models} | {"m0": "loaded"}))
    for model in models:
        await registry.find_any(model.id)
    assert registry.opener.ids == ["m0", "m4", "m5", "m6", "m7"]
    await registry.find_any("m4")
    await registry.find_any("m1")
    assert registry.opener.ids == ["m0", "m6", "m7", "m4", "m1"]
    registry.note_states(None)  # nothing is known of any of them
    assert len(registry.opener.ids) == 5


@pytest.mark.long
@pytest.mark.slow
async def test_memory_is_back_after_ten_cycles(served_models, tmp_path):
    """Tokenizer, template, threads: nothing of a model stays."""
    folder = tiny.make_chat_model(tmp_path, template=tiny.TOOL_TEMPLATE)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    words = {f"word{at}": 1000 + at for at in range(100_000)}  # some 20 MB when open
    tokenizer["model"]["vocab"] |= words
    file.write_text(json.dumps(tokenizer))
    model = dataclasses.replace(served_models[0], folder=folder)
    registry = Registry([model])

    async def cycle() -> None:
        gone = threading.Event()
        registry.note_states(ModelStates({model.id: "loaded"}))
        opened = await registry.find_chat(model.id)
        await opened.tokenizer.threads.run(lambda: None, size=1)
        weakref.finalize(opened.tokenizer, gone.set)
        del opened
        registry.note_states(ModelStates({model.id: "unloaded"}))
        assert await asyncio.to_thread(gone.wait, TIMEOUT)

    async def memory_after(num_cycles: int) -> int:
        for _ in range(num_cycles):
            await cycle()
        gc.collect()
        return footprint()

    before = await memory_after(8)  # what is imported once, and what the allocator keeps
    threads = _num_prompt_threads()
    growth = await memory_after(10) - before
    assert growth < 60_000_000  # ten open models have three times as much
    assert _num_prompt_threads() <= threads + 4  # those of the last one may still end


def _num_prompt_threads() -> int:
    return sum(thread.name.startswith("prompt") for thread in threading.enumerate())
