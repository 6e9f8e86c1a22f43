"""The engine dies, hangs or is paused while streams run."""

import asyncio
import os
import signal

import pytest
from support.faulty_node import WAIT
from support.node_process import is_running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

DEATHS = [
    signal.SIGKILL,
    signal.SIGSEGV,
    pytest.param(signal.SIGABRT, marks=pytest.mark.exhaustive),
]


@pytest.mark.parametrize("number", DEATHS, ids=lambda number: number.name)
async def test_engine_that_dies_during_streams_is_replaced(node, round, note, number):
    streams = await node.streams(round)
    engine = node.engine_pid()
    node.kill(engine, number)
    await asyncio.gather(*(stream.read() for stream in streams))
    assert {stream.error for stream in streams} == {
        "The engine stopped during this request; try again"
    }
    note(await node.recovers())
    assert node.engine_pid() != engine and not is_running(engine)


async def test_engine_that_hangs_is_unhealthy_soon_and_replaced_later(node, round, note):
    streams = await node.streams(round)
    engine = node.engine_pid()
    node.kill(engine, signal.SIGSTOP)
    async with asyncio.timeout(WAIT):
        while (health := await node.ask("/health")).status == 200:
            await asyncio.sleep(0.05)
    assert health.status == 503
    assert "has not answered for" in health.text
    assert is_running(engine)  # long before it is replaced
    listed = await node.ask("/v1/models")
    assert listed.status == 200
    await asyncio.gather(*(stream.read() for stream in streams))
    assert all(stream.error for stream in streams)
    note(await node.recovers())
    assert node.engine_pid() != engine


async def test_engine_that_pauses_loses_nothing(node, round):
    whole = [await node.open_stream(f"{round} {i}", 300) for i in range(8)]
    await asyncio.gather(*(stream.read() for stream in whole))
    streams = [await node.open_stream(f"{round} {i}", 300) for i in range(8)]
    await asyncio.gather(*(stream.read(2) for stream in streams))
    engine = node.engine_pid()
    node.kill(engine, signal.SIGSTOP)
    while (await node.ask("/health")).status == 200:
        await asyncio.sleep(0.05)
    node.kill(engine, signal.SIGCONT)
    while (await node.ask("/health")).status != 200:
        await asyncio.sleep(0.05)
    await asyncio.gather(*(stream.read() for stream in streams))
    assert [stream.error for stream in streams] == [None] * 8
    assert [stream.text for stream in streams] == [stream.text for stream in whole]
    assert node.engine_pid() == engine


@pytest.mark.exhaustive
async def test_engine_that_dies_while_it_loads_loads_again(node, round, note):
    for _ in range(3):  # as often as a model that kills the engine would be given up
        engine = node.engine_pid()
        node.kill(engine)
        async with asyncio.timeout(WAIT):
            while node.engine_pid() == engine:
                await asyncio.sleep(0.01)
    note(await node.recovers())


@pytest.mark.exhaustive
async def test_embeddings_in_flight_fail_with_the_engine(node, round, note):
    inputs = [f"{i} {round[-20:]}" for i in range(500)]
    asked = [
        asyncio.create_task(node.ask("/v1/embeddings", model="vectors", input=inputs))
        for _ in range(4)
    ]
    node.kill(node.engine_pid())
    answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} <= {200, 503}
    note(await node.recovers())
    again = await node.ask("/v1/embeddings", model="vectors", input=inputs[:3])
    assert again.status == 200


def test_record_of_the_step_is_no_leak(shared_node):
    """Every engine inherits the same file: the supervisor opens no other."""
    folder = f"/proc/{shared_node.process.pid}/fd"
    if not os.path.isdir(folder):
        pytest.skip("this system does not list the files of a process")
    links = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
    assert len([link for link in links if "mlxnode-step" in link]) == 1
