"""The store of answers: newest first, each owner for itself, shared by all that open it."""

import asyncio

import pytest

from mlxnode.server.response_store import ResponseStore


@pytest.fixture
def store(tmp_path):
    return ResponseStore(tmp_path, capacity=3, max_bytes=1000)


def test_store_finds_what_was_put(store):
    async def run():
        assert await store.put("a", "1", b"one")
        return [await store.get("a", "1"), await store.get("a", "2"), await store.get("b", "1")]

    assert asyncio.run(run()) == [b"one", None, None]


def test_store_keeps_the_newest_of_each_owner(store):
    async def run():
        for number in range(5):
            await store.put("a", str(number), b"x")
        await store.put("b", "0", b"y")
        return [await store.get("a", str(number)) for number in range(5)], await store.get(
            "b", "0"
        )

    assert asyncio.run(run()) == ([None, None, b"x", b"x", b"x"], b"y")


def test_store_is_bounded_in_bytes(store):
    async def run():
        assert not await store.put("a", "huge", bytes(1001))
        assert await store.put("a", "1", bytes(400))
        assert await store.put("a", "2", bytes(400))
        assert await store.put("a", "3", bytes(300))
        assert await store.put("b", "1", bytes(900))
        ids = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("a", "huge")]
        return [await store.get(*id) is not None for id in ids]

    assert asyncio.run(run()) == [False, True, True, True, False]


def test_store_replaces_and_deletes(store):
    async def run():
        await store.put("a", "1", b"one")
        await store.put("a", "1", b"two")
        found = await store.get("a", "1")
        return found, [await store.delete(*id) for id in (("b", "1"), ("a", "1"), ("a", "1"))]

    assert asyncio.run(run()) == (b"two", [False, True, False])


def test_stores_of_one_folder_share_their_answers(tmp_path):
    stores = [ResponseStore(tmp_path, capacity=100) for _ in range(4)]

    async def write(number: int) -> None:
        await stores[number % 4].put("a", str(number), str(number).encode())

    async def run():
        await asyncio.gather(*map(write, range(40)))
        return [await stores[3 - n % 4].get("a", str(n)) for n in range(40)]

    assert asyncio.run(run()) == [str(number).encode() for number in range(40)]
