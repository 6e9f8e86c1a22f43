"""Signals to a node that is idle, loads or streams: it ends, with all its children."""

import asyncio
import signal

import pytest
from support.faulty_node import WAIT
from support.node_process import is_running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ENDING = [
    signal.SIGTERM,
    pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive),
    pytest.param(signal.SIGQUIT, marks=pytest.mark.exhaustive),
]


async def ended(node, children: list[int]) -> int:
    """The exit code, once no child is left."""
    code = await asyncio.to_thread(node.process.wait, WAIT)
    async with asyncio.timeout(WAIT):
        while any(is_running(pid) for pid in children):
            await asyncio.sleep(0.05)
    return code


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
async def test_idle_node_ends_at_a_signal(own_node, round, number):
    node = own_node()
    children = node.child_pids()
    node.kill(node.process.pid, number)
    assert await ended(node, children) == 0


async def test_loading_node_ends_at_a_signal(own_node, round):
    node = own_node(is_ready=False)
    async with asyncio.timeout(WAIT):
        while not any("engine started" in line for line in node.log):
            await asyncio.sleep(0.01)
    children = node.child_pids()
    node.kill(node.process.pid, signal.SIGTERM)
    assert await ended(node, children) == 0


async def test_streaming_node_lets_streams_end(own_node, round):
    node = own_node(server="drain_timeout = 100.0")
    streams = [await node.open_stream(f"{round} {i}", 600) for i in range(8)]
    await asyncio.gather(*(stream.read(2) for stream in streams))
    children = node.child_pids()
    node.kill(node.process.pid, signal.SIGTERM)
    await asyncio.gather(*(stream.read() for stream in streams))
    assert [stream.error for stream in streams] == [None] * 8
    for stream in streams:
        stream.close()
    assert await ended(node, children) == 0


async def test_second_signal_ends_a_streaming_node_at_once(own_node, round):
    node = own_node(server="drain_timeout = 100.0")
    streams = await node.streams(round, 8)
    children = node.child_pids()
    node.kill(node.process.pid, signal.SIGTERM)
    async with asyncio.timeout(WAIT):
        while not any("draining" in line for line in node.log):
            await asyncio.sleep(0.01)
    node.kill(node.process.pid, signal.SIGTERM)
    assert await ended(node, children) == 128 + signal.SIGTERM
    await asyncio.gather(*(stream.read() for stream in streams))
    assert all(stream.error for stream in streams)


async def test_killed_supervisor_takes_its_streaming_children_along(own_node, round):
    node = own_node()
    streams = await node.streams(round)
    children = node.child_pids()
    node.kill(node.process.pid)
    assert await ended(node, children) == -signal.SIGKILL
    await asyncio.gather(*(stream.read() for stream in streams))
    assert all(stream.error for stream in streams)
