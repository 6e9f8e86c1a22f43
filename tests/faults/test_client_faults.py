"""Clients that leave, do not read, send half a request, or come in great numbers."""

import asyncio
import random

import pytest
from support.faulty_node import WAIT, completion, request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


async def leave_somewhere(node, draw: random.Random, name: str) -> None:
    """One client that leaves at a random moment: in its request, before or in its answer."""
    reader, writer = await node.connect()
    content = request(
        "/v1/completions", completion(name, 400) | {"stream": draw.random() < 0.8}
    )
    sent = len(content) if draw.random() < 0.8 else draw.randrange(len(content))
    writer.write(content[:sent])
    for _ in range(draw.randrange(4)):
        try:
            async with asyncio.timeout(draw.random() / 4):
                await reader.read(2000)
        except TimeoutError:
            continue
    if draw.random() < 0.3:
        writer.transport.abort()
    else:
        writer.close()


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.exhaustive)])
async def test_clients_that_leave_at_random_leave_nothing_behind(node, round, count):
    draw = random.Random(round)
    before = node.num_descriptors()
    pids = node.engine_pid(), *node.worker_pids()
    for start in range(0, count, 50):
        names = [f"{round} {i}" for i in range(start, min(start + 50, count))]
        await asyncio.gather(*(leave_somewhere(node, draw, name) for name in names))
    await node.is_clean()
    assert (node.engine_pid(), *node.worker_pids()) == pids
    async with asyncio.timeout(WAIT):
        while any(n > before[pid] + 3 for pid, n in node.num_descriptors().items()):
            await asyncio.sleep(0.1)


async def test_clients_that_do_not_read_delay_nobody(node, round):
    """Their connections have room for a part of the answers only."""
    slow = []
    for i in range(16):
        reader, writer = await node.connect(limit=1024)
        writer.transport.pause_reading()
        writer.write(
            request("/v1/completions", completion(f"{round} {i}", 3000) | {"stream": True})
        )
        slow.append((reader, writer))
    for _ in range(5):
        await node.recovers()
    for _, writer in slow:
        writer.transport.abort()
    await node.is_clean()


async def test_batch_mates_of_cancelled_requests_get_the_same_tokens(node, round):
    prompts = [f"{round} stays {i}" for i in range(8)]
    alone = await asyncio.gather(*(node.answer(prompt, 200) for prompt in prompts))
    mates = [await node.open_stream(f"{round} leaves {i}") for i in range(16)]
    await asyncio.gather(*(stream.read(2) for stream in mates))
    asked = [asyncio.create_task(node.answer(prompt, 200)) for prompt in prompts]
    for stream in mates:
        await asyncio.sleep(0)
        await stream.read(3)
        stream.close()
    assert [answer.text for answer in await asyncio.gather(*asked)] == [
        answer.text for answer in alone
    ]


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.exhaustive)])
async def test_idle_connections_keep_nobody_out(many_descriptors, node, round, count):
    idle = await asyncio.gather(*(node.connect() for _ in range(count)))
    await node.recovers()
    for _, writer in idle:
        writer.transport.abort()
    await node.recovers()


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.exhaustive)])
async def test_streams_in_great_numbers_all_end_well(many_descriptors, own_node, round, count):
    node = own_node(engine="max_queue_size = 2000")
    await node.recovers()
    made = await asyncio.gather(
        *(node.open_stream(f"{round} {i % 50}", 10) for i in range(count))
    )
    await asyncio.gather(*(stream.read() for stream in made))
    assert [stream.error for stream in made] == [None] * count
    by_prompt: dict[int, set[str]] = {}
    for i, stream in enumerate(made):
        by_prompt.setdefault(i % 50, set()).add(stream.text)
        stream.close()
    assert all(len(texts) == 1 for texts in by_prompt.values())
    await node.is_clean()


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.exhaustive)])
async def test_queued_requests_can_all_be_cancelled(own_node, round, count):
    node = own_node(engine=f"max_queue_size = {count}")
    await node.recovers()
    prompts = [f"{round} {i}" for i in range(100)]
    clients = []
    for _ in range(count // 100):
        _, writer = await node.connect()
        body = completion("", 2000) | {"prompt": prompts}
        writer.write(request("/v1/completions", body))
        clients.append(writer)
    async with asyncio.timeout(300):
        while _num_waiting(node) < count - 200:
            await asyncio.sleep(0.05)
    for writer in clients:
        writer.transport.abort()
    await node.is_clean()
    await node.recovers()


@pytest.mark.exhaustive
async def test_full_queue_refuses_and_serves_again(own_node, round):
    node = own_node(engine="max_queue_size = 4\nmax_batch_size = 2")
    await node.recovers()
    streams = [await node.open_stream(f"{round} {i}", 4000) for i in range(6)]
    async with asyncio.timeout(WAIT):
        while _num_waiting(node) < 4:
            await asyncio.sleep(0.02)
    refused = await node.answer(round)
    assert refused.status == 503 and int(refused.headers["retry-after"]) > 0
    for stream in streams:
        stream.close()
    await node.recovers()
    await node.is_clean()


def _num_waiting(node) -> int:
    engine = node.figures().engine
    return 0 if engine is None else sum(model.work.num_waiting for model in engine.models)
