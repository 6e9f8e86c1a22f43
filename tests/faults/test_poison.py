"""A request that ends the engine each time: it is refused, and nobody else pays for it."""

import asyncio
import signal

import pytest
from support.faulty_node import WAIT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

REFUSED = "The engine failed each time it worked on this request"


async def run_and_die(node, prompts: list[str], number: signal.Signals) -> None:
    """The engine dies while these requests run."""
    await node.recovers()
    streams = [await node.open_stream(prompt) for prompt in prompts]
    await asyncio.gather(*(stream.read(2) for stream in streams))
    node.kill(node.engine_pid(), number)
    await asyncio.gather(*(stream.read() for stream in streams))
    assert all(stream.error for stream in streams)


@pytest.mark.parametrize(
    "number",
    [signal.SIGSEGV, pytest.param(signal.SIGKILL, marks=pytest.mark.exhaustive)],
    ids=lambda number: number.name,
)
async def test_request_that_was_in_two_deaths_alone_is_refused(node, round, number):
    for _ in range(2):
        await run_and_die(node, [round], number)
    await node.recovers()
    engine = node.engine_pid()
    refused = await node.answer(round, 8000)
    assert refused.status == 500 and REFUSED in refused.text
    assert refused.headers["x-should-retry"] == "false"
    assert (await node.answer(f"{round} other", 12)).status == 200
    assert node.engine_pid() == engine


async def test_poison_is_told_from_innocent_requests_of_the_same_batches(node, round):
    """Clients retry all; the engine dies whenever the poison runs."""
    innocent = [f"{round} innocent {i}" for i in range(5)]
    deaths = 0
    while deaths < 9:
        deaths += 1
        await node.recovers()
        # In quarantine, each may have to wait for others to end.
        streams = [await node.open_stream(prompt, 500) for prompt in (*innocent, round)]
        first = [asyncio.create_task(stream.read(2)) for stream in streams]
        await first[-1]
        if streams[-1].error is not None:
            break  # it is refused
        node.kill(node.engine_pid(), signal.SIGSEGV)
        await asyncio.gather(*first)
        await asyncio.gather(*(stream.read() for stream in streams))
    for stream in streams:
        stream.close()
    assert 2 <= deaths <= 6
    assert (await node.answer(round, 500)).status == 500
    answers = await asyncio.gather(*(node.answer(prompt, 500) for prompt in innocent))
    assert {answer.status for answer in answers} == {200}


@pytest.mark.exhaustive
async def test_crashes_by_requests_make_nobody_wait(node, round):
    """The back-off stays where it begins, however often the engine dies of requests."""
    for i in range(6):
        await run_and_die(node, [f"{round} {i}"], signal.SIGSEGV)
    await node.recovers()
    lines = [line for line in node.log if "engine (pid" in line and "SIGSEGV" in line]
    assert all("starting it again in 0.1 s" in line for line in lines[-6:])


@pytest.mark.exhaustive
async def test_embeddings_that_end_the_engine_are_refused(node, round):
    body = {"model": "vectors", "input": [f"{i} {round[-20:]}" for i in range(1500)]}
    answers = []
    for _ in range(10):
        await node.recovers()
        asked = [asyncio.create_task(node.ask("/v1/embeddings", **body)) for _ in range(8)]
        async with asyncio.timeout(WAIT):
            while not (is_busy := _is_embedding(node)) and not all(e.done() for e in asked):
                await asyncio.sleep(0.01)
        if is_busy:
            node.kill(node.engine_pid(), signal.SIGSEGV)
        answers = await asyncio.gather(*asked)
        if all(REFUSED in answer.text for answer in answers):
            break
    assert {answer.status for answer in answers} == {500}
    await node.recovers()
    assert (await node.ask("/v1/embeddings", model="vectors", input="x")).status == 200


def _is_embedding(node) -> bool:
    engine = node.figures().engine
    return engine is not None and any(model.work.num_waiting for model in engine.models)
