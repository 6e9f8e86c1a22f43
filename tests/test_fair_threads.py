"""Threads are shared fairly: events, not clocks, decide what these tests see."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

from mlxnode.fair_threads import FairThreads, client

WAIT = 20  # seconds, only if a test fails
SMALL = 4096
LARGE = 10 * SMALL


class Blocked:
    """Threads that are all held up; ``done`` lists the jobs in their order."""

    def __init__(self, num_threads: int = 1, *, hold_small: bool = True):
        self.threads = FairThreads("test", num_threads, small=SMALL)
        self.done: list[str] = []
        self._waited: list[threading.Event] = []
        self._go, self._end = threading.Event(), threading.Event()
        # One after the other: while all threads for large ones are busy, the other is left.
        for _ in range(num_threads):
            self._hold(LARGE, self._go)
        if hold_small:
            self._hold(SMALL, self._end)

    def _hold(self, size: int, until: threading.Event) -> None:
        started = threading.Event()

        def hold() -> None:
            started.set()
            assert until.wait(WAIT)

        self.threads.submit(hold, size=size)
        assert started.wait(WAIT)

    def release(self) -> None:
        self._go.set()
        self._end.set()

    def submit(self, name: str, size: int, client: str = "") -> threading.Event:
        is_done = threading.Event()

        def job() -> str:
            self.done.append(name)
            is_done.set()
            return name

        self.threads.submit(job, size=size, client=client)
        self._waited.append(is_done)
        return is_done

    def run(self) -> list[str]:
        """Let the threads for large work do all; the names in their order."""
        self._go.set()
        for is_done in self._waited:
            assert is_done.wait(WAIT)
        return self.done


@contextlib.contextmanager
def closing(blocked: Blocked) -> Iterator[Blocked]:
    try:
        yield blocked
    finally:
        blocked.release()
        blocked.threads.close()


def test_small_work_never_waits_for_large_work():
    with closing(Blocked(2, hold_small=False)) as blocked:
        for number in range(60):
            blocked.submit(f"large {number}", LARGE, "flood")
        # All other threads are held up: it is done all the same.
        assert blocked.submit("small", SMALL, "flood").wait(WAIT)
        assert blocked.done == ["small"]


def test_large_work_passes_that_of_a_flood():
    with closing(Blocked()) as blocked:
        for number in range(60):
            blocked.submit(f"flood {number}", LARGE, "flood")
        blocked.submit("other", LARGE, "other")
        blocked.submit("next", LARGE, "other")
        order = blocked.run()
        assert order.index("other") <= 1 and order.index("next") <= 3


def test_a_flood_of_small_work_does_not_pass_a_larger_one_for_ever():
    with closing(Blocked()) as blocked:
        blocked.submit("large", LARGE, "one")
        for number in range(60):
            blocked.submit(f"small {number}", SMALL, "flood")
        order = blocked.run()
        assert order.index("large") <= LARGE // SMALL + 1


def test_without_a_client_the_smaller_work_comes_first():
    with closing(Blocked()) as blocked:
        for size in (30, 20, 40):
            blocked.submit(str(size), size * SMALL)
        assert blocked.run() == ["20", "30", "40"]


def test_work_of_one_client_keeps_its_order():
    with closing(Blocked()) as blocked:
        names = [str(number) for number in range(20)]
        for name in names:
            blocked.submit(name, LARGE, "one")
        assert blocked.run() == names


def test_a_client_that_was_idle_has_saved_nothing():
    with closing(Blocked()) as blocked:
        blocked.submit("first", LARGE, "one")
        blocked.run()
    with closing(Blocked()) as blocked:
        for number in range(4):
            blocked.submit(f"one {number}", LARGE, "one")
            blocked.submit(f"two {number}", LARGE, "two")
        assert [name[:3] for name in blocked.run()] == ["one", "two"] * 4


def test_an_error_is_the_caller_s():
    threads = FairThreads("test", 2, stack_bytes=2**20)

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        threads.submit(fail, size=1).result(WAIT)
    assert threads.submit(lambda: 1, size=1).result(WAIT) == 1
    threads.close()


def test_what_is_cancelled_is_not_done():
    with closing(Blocked()) as blocked:
        future = blocked.threads.submit(lambda: blocked.done.append("cancelled"), size=SMALL)
        assert future.cancel()
        blocked.submit("other", SMALL)
        assert blocked.run() == ["other"]


def test_closed_threads_do_nothing():
    with closing(Blocked()) as blocked:
        waiting = blocked.threads.submit(lambda: 1, size=1)
        blocked.threads.close()
        assert waiting.cancelled() and blocked.threads.submit(lambda: 1, size=1).cancelled()


def test_threads_have_the_stack_that_they_are_given():
    sizes = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        sizes.append(size := threading.stack_size(0))
        threading.stack_size(size)
        real(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        threads = FairThreads("test", 2, small=SMALL, stack_bytes=2**25)
        assert not sizes  # they start with the first work
        assert threads.submit(lambda: 1, size=1).result(WAIT) == 1
    assert sizes == [2**25] * 3
    assert threading.stack_size() == 0  # of other threads, as before
    threads.close()


async def test_run_is_fair_among_the_clients_of_requests():
    with closing(Blocked(hold_small=False)) as blocked:
        order: list[str] = []

        async def ask(name: str) -> None:
            client.set(name)
            await blocked.threads.run(lambda: order.append(name), size=LARGE)

        asked = [asyncio.create_task(ask("flood")) for _ in range(20)]
        asked.append(asyncio.create_task(ask("other")))
        await asyncio.sleep(0)
        blocked.release()
        await asyncio.gather(*asked)
        assert len(order) == 21 and order.index("other") <= 1
