"""The budget of bytes of request bodies, without any socket."""

import asyncio
import random

import pytest
from support.cpu_time import cpu_time

from mlxnode.server.http.bytes_in_flight import BytesInFlight, Share


async def settled(*tasks: asyncio.Task[Share]) -> list[bool]:
    """Which tasks are done when nothing more can happen."""
    for _ in range(5):
        await asyncio.sleep(0)
    return [task.done() for task in tasks]


def takes(budget: BytesInFlight, *wanted: tuple[str, int]) -> list[asyncio.Task[Share]]:
    return [asyncio.create_task(budget.take(address, size)) for address, size in wanted]


async def test_what_fits_is_held_at_once_and_the_rest_waits_in_order():
    budget = BytesInFlight(100, 10)
    tasks = takes(budget, ("a", 60), ("b", 30), ("c", 20), ("d", 5))
    assert await settled(*tasks) == [True, True, False, False]  # d does not pass c
    assert budget.num_held == 90
    tasks[1].result().release()
    tasks[1].result().release()  # counts once
    assert await settled(*tasks) == [True, True, True, True]
    for task in tasks:
        task.result().release()
    assert budget.num_held == 0


async def test_one_address_never_gets_all():
    budget = BytesInFlight(100, 10)
    greedy = takes(budget, *[("a", 10)] * 50)
    assert sum(await settled(*greedy)) == 7
    other = takes(budget, ("b", 10), ("b", 10), ("b", 10))
    assert await settled(*other) == [True, True, True]
    for task in greedy[:7]:
        task.result().release()
    assert sum(await settled(*greedy)) == 14


async def test_addresses_take_turns():
    """Behind a thousand bodies of one address, the first of another is the next."""
    budget = BytesInFlight(100, 100)
    first = (await asyncio.gather(*takes(budget, ("x", 100))))[0]
    many = takes(budget, *[("a", 50)] * 1000)
    one = takes(budget, ("b", 50))[0]
    await settled(one)
    first.release()
    assert await settled(many[0], many[1], one) == [True, False, True]


async def test_the_largest_body_gets_its_bytes_although_small_ones_come():
    budget = BytesInFlight(100, 100)
    small = takes(budget, *[(f"s{n}", 20) for n in range(5)])
    await settled(*small)
    large = takes(budget, ("large", 100))[0]
    later = takes(budget, *[(f"l{n}", 20) for n in range(5)])
    for task in small:
        assert await settled(large, *later) == [False] * 6
        task.result().release()
    assert await settled(large, *later) == [True] + [False] * 5
    large.result().release()
    assert all(await settled(*later))


async def test_a_client_that_leaves_frees_its_place():
    budget = BytesInFlight(100, 100)
    first, second, third = takes(budget, ("a", 100), ("b", 100), ("c", 10))
    await settled(first, second, third)
    second.cancel()
    first.result().release()
    await settled(first, second, third)
    assert second.cancelled() and third.done() and budget.num_held == 10


async def test_a_client_that_leaves_in_the_moment_of_its_turn_frees_its_bytes():
    budget = BytesInFlight(100, 100)
    first, second = takes(budget, ("a", 100), ("b", 100))
    await settled(first, second)
    first.result().release()  # second is granted, but has not run since
    second.cancel()
    await settled(second)
    assert second.cancelled() and budget.num_held == 0


async def test_a_thousand_random_loads_end_with_nothing_held():
    numbers = random.Random(1)
    for _ in range(1000):
        total = numbers.randint(10, 200)
        largest = numbers.randint(1, total)
        budget = BytesInFlight(total, largest)
        tasks = takes(
            budget,
            *[
                (numbers.choice("abcd"), numbers.randint(1, largest))
                for _ in range(numbers.randint(1, 30))
            ],
        )
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            assert 0 <= budget.num_held <= total
            ready = [task for task in tasks if task.done() and not task.cancelled()]
            held = [task for task in ready if task.result().size]
            if numbers.random() < 0.1:
                numbers.choice(tasks).cancel()
            elif held:
                numbers.choice(held).result().release()
        for task in tasks:
            if not task.cancelled():
                task.result().release()
        assert budget.num_held == 0 and budget._queues == {} and not budget._turns


@pytest.mark.parametrize("same", [True, False])
async def test_many_that_wait_take_linear_time(same):
    seconds = []
    for count in (500, 5_000):
        budget = BytesInFlight(100, 100)
        first = await budget.take("first", 100)
        with cpu_time() as spent:
            tasks = takes(budget, *[("a" if same else str(n), 100) for n in range(count)])
            await settled(*tasks[-1:])
            first.release()
            for task in tasks:
                (await task).release()
        seconds.append(spent.seconds)
    assert seconds[1] < 0.2 + 40 * seconds[0]
