"""A worker dies, hangs or is stopped early; its clients hear of it, and others do not."""

import asyncio
import signal

import pytest
from support.faulty_node import WAIT
from support.node_process import is_running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.exhaustive)],
    ids=lambda number: number.name,
)
async def test_worker_that_dies_with_streams_is_replaced(node, round, note, number):
    worker, other = node.worker_pids()
    lost = await node.streams_on(worker, f"{round} lost", 8)
    kept = await node.streams_on(other, f"{round} kept", 8)
    node.kill(worker, number)
    await asyncio.gather(*(stream.read() for stream in lost))
    assert {stream.error for stream in lost} == {"cut"}
    note(await node.recovers())
    await asyncio.gather(*(stream.read(20) for stream in kept))
    assert [stream.error for stream in kept] == [None] * 8
    for stream in kept:
        stream.close()
    assert other in node.worker_pids() and len(node.worker_pids()) == 2


async def test_worker_that_hangs_with_streams_is_replaced(node, round, note):
    worker, other = node.worker_pids()
    lost = await node.streams_on(worker, round, 8)
    node.kill(worker, signal.SIGSTOP)
    await asyncio.gather(*(stream.read() for stream in lost))  # it ends when it is replaced
    assert {stream.error for stream in lost} == {"cut"}
    assert not is_running(worker) and is_running(other)
    note(await node.recovers())


@pytest.mark.exhaustive
async def test_worker_that_is_stopped_as_it_starts_is_replaced(node, round):
    before = set(node.worker_pids())
    node.kill(min(before))
    async with asyncio.timeout(WAIT):
        while not (started := set(node.worker_pids()) - before):
            await asyncio.sleep(0.001)
        node.kill(started.pop(), signal.SIGSTOP)
        while any(process.state != "ready" for process in node.figures().processes):
            assert (await node.answer()).status == 200  # the other worker serves
            await asyncio.sleep(0.1)
    assert len(node.worker_pids()) == 2


async def test_restarted_worker_answers_its_first_request(own_node, round, note):
    """The only worker is replaced: whoever connects meanwhile waits, and gets no 503."""
    node = own_node(workers=1)
    await node.recovers()
    for _ in range(3):
        node.kill(node.worker_pids()[0])
        async with asyncio.timeout(WAIT):
            while not node.worker_pids():
                await asyncio.sleep(0.01)
        answers = await asyncio.gather(*(node.answer() for _ in range(8)))
        assert {answer.status for answer in answers} == {200}
        note(await node.recovers())


@pytest.mark.exhaustive
async def test_all_workers_that_die_at_once_are_replaced(node, round, note):
    streams = await node.streams(round, 8)
    for pid in node.worker_pids():
        node.kill(pid)
    await asyncio.gather(*(stream.read() for stream in streams))
    assert {stream.error for stream in streams} == {"cut"}
    note(await node.recovers())
