"""Grammars are compiled fairly: events, not clocks, decide what these tests see."""

import contextlib
import threading
from collections.abc import Iterator

import pytest

from mlxnode.compile_queue import SMALL, CompileQueue

WAIT = 20  # seconds, only if a test fails
LARGE = 10 * SMALL


class Blocked:
    """A queue whose threads are all held up; ``done`` lists the jobs in their order."""

    def __init__(self, num_threads: int = 1, *, hold_small: bool = True):
        self.queue = CompileQueue("test", num_threads)
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

        self.queue.submit(hold, size=size)
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

        self.queue.submit(job, size=size, client=client)
        self._waited.append(is_done)
        return is_done

    def run(self) -> list[str]:
        """Let the threads for large grammars do all; the names in their order."""
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
        blocked.queue.close()


def test_a_small_grammar_never_waits_for_large_ones():
    with closing(Blocked(2, hold_small=False)) as blocked:
        for number in range(60):
            blocked.submit(f"large {number}", LARGE, "flood")
        # All other threads are held up: it is compiled all the same.
        assert blocked.submit("small", SMALL, "flood").wait(WAIT)
        assert blocked.done == ["small"]


def test_a_large_grammar_passes_those_of_a_flood():
    with closing(Blocked()) as blocked:
        for number in range(60):
            blocked.submit(f"flood {number}", LARGE, "flood")
        blocked.submit("other", LARGE, "other")
        blocked.submit("next", LARGE, "other")
        order = blocked.run()
        assert order.index("other") <= 1 and order.index("next") <= 3


def test_a_flood_of_small_grammars_does_not_pass_a_larger_one_for_ever():
    with closing(Blocked()) as blocked:
        blocked.submit("large", LARGE, "one")
        for number in range(60):
            blocked.submit(f"small {number}", SMALL, "flood")
        order = blocked.run()
        assert order.index("large") <= LARGE // SMALL + 1


def test_without_a_client_the_smaller_grammar_comes_first():
    with closing(Blocked()) as blocked:
        for size in (30, 20, 40):
            blocked.submit(str(size), size * SMALL)
        assert blocked.run() == ["20", "30", "40"]


def test_grammars_of_one_client_keep_their_order():
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
    queue = CompileQueue("test")

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        queue.submit(fail).result(WAIT)
    assert queue.submit(lambda: 1).result(WAIT) == 1
    queue.close()


def test_what_is_cancelled_is_not_compiled():
    with closing(Blocked()) as blocked:
        future = blocked.queue.submit(lambda: blocked.done.append("cancelled"))
        assert future.cancel()
        blocked.submit("other", SMALL)
        assert blocked.run() == ["other"]


def test_a_closed_queue_compiles_nothing():
    with closing(Blocked()) as blocked:
        waiting = blocked.queue.submit(lambda: 1)
        blocked.queue.close()
        assert waiting.cancelled() and blocked.queue.submit(lambda: 1).cancelled()


def test_threads_have_the_stack_that_deep_grammars_need():
    def depth(left: int) -> int:
        return depth(left - 1) + 1 if left else 0

    queue = CompileQueue("test")
    assert queue.submit(lambda: depth(900)).result(WAIT) == 900
    assert threading.stack_size() == 0  # of other threads, as before
    queue.close()
