"""Waiting for the updates of a request loses none."""

import asyncio

import pytest

from mlxnode.messages.data import Update
from mlxnode.server.client.engine_call import EngineCall
from mlxnode.server.errors import ApiError


async def test_wait_loses_no_update():
    """Updates and the ends of waits meet in all orders."""
    call, taken = EngineCall(lambda uid: None, "m"), []
    updates = [Update(uid=1, finish=None) for _ in range(300)]

    async def deliver() -> None:
        for at, update in enumerate(updates):
            await asyncio.sleep(0.0005 * (at % 3))
            call.deliver(at, update)

    task = asyncio.create_task(deliver())
    num_waits = 0
    while len(taken) < len(updates):
        num_waits += 1
        if await call.wait(0.0005):
            taken += [index for index, _ in await call.receive()]
    await task
    assert taken == list(range(len(updates)))
    assert num_waits > len(updates) / 3
    assert not await call.wait(0.001)
    call.fail(ApiError("no"))
    assert await call.wait(10)
    with pytest.raises(ApiError):
        await call.receive()


async def test_wait_that_is_cancelled_as_it_ends_is_cancelled():
    call = EngineCall(lambda uid: None, "m")
    task = asyncio.create_task(call.wait(0.001))
    await asyncio.sleep(0)
    call.deliver(0, Update(uid=1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await call.receive() == [(0, Update(uid=1))]
