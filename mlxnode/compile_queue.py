"""The threads that compile grammars, and the order in which they do so.

A grammar takes a millisecond or a second, as its client likes. So those of one client do not
stand before those of another: each client has a clock that its grammars advance by their size,
and the grammar comes first whose client is behind (self-clocked fair queueing, S. J. Golestani,
1994). One thread compiles small grammars alone: they never wait for large ones.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")

# Whose request is being served, in the process that has the requests.
client: ContextVar[str] = ContextVar("client", default="")

# Compiling recurses once for each link in a chain of rules or references. The largest grammars
# that workers accept need 16 to 32 MB; the usual stack of 8 MB would end the process.
_STACK_BYTES = 128 * 2**20
SMALL = 4096  # bytes of a grammar
_LEAST = 256  # bytes that count for any grammar
_stack_lock = threading.Lock()  # the size of a stack is the process's


class _Job(NamedTuple):
    clock: float
    number: int  # of two equal clocks, the first one
    future: "Future[Any]"
    call: Callable[[], Any]


class CompileQueue:
    """Compiles in ``num_threads`` threads, and small grammars in one more."""

    def __init__(self, name: str, num_threads: int = 2):
        # Heaps; the small ones are for all threads.
        self._small: list[_Job] = []
        self._large: list[_Job] = []
        self._clocks: dict[str, float] = {}  # of clients, if ahead of ``_now``
        self._now = 0.0  # the clock of the last job that has started
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._is_closed = False
        with _stack_lock:
            before = threading.stack_size(_STACK_BYTES)
            try:
                for number in range(num_threads + 1):
                    heaps = [self._small, self._large] if number else [self._small]
                    threading.Thread(
                        target=self._run, args=(heaps,), name=f"{name}-{number}", daemon=True
                    ).start()
            finally:
                threading.stack_size(before)

    def submit(
        self, call: Callable[[], Result], *, size: int = SMALL, client: str = ""
    ) -> "Future[Result]":
        """Call ``call`` in a thread whose stack is large enough to compile.

        ``size``: of the grammar, in bytes. Without ``client``, the job is a client of its own.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._is_closed:
                future.cancel()
                return future
            clock = max(self._now, self._clocks.get(client, 0.0)) + max(size, _LEAST)
            if client:
                self._clocks[client] = clock
            job = _Job(clock, next(self._numbers), future, call)
            heapq.heappush(self._small if size <= SMALL else self._large, job)
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """End the threads, after what they do now, and cancel what waits."""
        with self._changed:
            self._is_closed = True
            for waiting in (self._small, self._large):
                for job in waiting:
                    job.future.cancel()
                waiting.clear()
            self._changed.notify_all()

    def _run(self, heaps: list[list[_Job]]) -> None:
        """Do the jobs of ``heaps``, one after the other, until the end."""
        while (job := self._next(heaps)) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                job.future.set_result(job.call())
            except BaseException as error:  # a panic of a library in Rust is no Exception
                job.future.set_exception(error)
            del job  # its result need not stay until the next one

    def _next(self, heaps: list[list[_Job]]) -> _Job | None:
        with self._changed:
            while not self._is_closed:
                filled = [heap for heap in heaps if heap]
                if filled:
                    job = heapq.heappop(min(filled, key=lambda heap: heap[0][:2]))
                    self._now = max(self._now, job.clock)
                    if not self._small and not self._large:
                        self._clocks.clear()  # who comes next is behind nobody
                    return job
                self._changed.wait()
        return None
