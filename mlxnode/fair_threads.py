"""Threads for the work of many clients, and whose work is next.

A text, a body or a grammar takes a millisecond or a second, as its client likes. So the work of
one client does not stand before that of another: each client has a clock that its work advances
by its size, and the work comes first whose client is behind (self-clocked fair queueing,
S. J. Golestani, 1994).
"""

import asyncio
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

_LEAST = 256  # the size that counts for any work
_stack_lock = threading.Lock()  # the size of a stack is the process's


class _Job(NamedTuple):
    clock: float
    number: int  # of two equal clocks, the first one
    future: "Future[Any]"
    call: Callable[[], Any]


class FairThreads:
    """``num_threads`` threads, which start with the first work.

    Work of at most the size ``small`` has one more: it never waits for large work.
    """

    def __init__(self, name: str, num_threads: int, *, small: int = 0, stack_bytes: int = 0):
        """``stack_bytes`` is the size of the stack of each thread; 0: the usual one."""
        self._name, self._num_threads = name, num_threads
        self._small_size, self._stack_bytes = small, stack_bytes
        # Heaps; the small work is for all threads.
        self._small: list[_Job] = []
        self._large: list[_Job] = []
        self._clocks: dict[str, float] = {}  # of clients, if ahead of ``_now``
        self._now = 0.0  # the clock of the last job that has started
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._is_started = self._is_closed = False

    async def run(self, call: Callable[[], Result], *, size: int) -> Result:
        """The result of ``call``, for the client whose request is being served."""
        return await asyncio.wrap_future(self.submit(call, size=size, client=client.get()))

    def submit(
        self, call: Callable[[], Result], *, size: int, client: str = ""
    ) -> "Future[Result]":
        """Call ``call`` in a thread; it is done in the order that the module's docstring says.

        ``size``: of the work, in bytes or characters. Without ``client``, the work is that of
        a client of its own.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._is_closed:
                future.cancel()
                return future
            self._start()
            clock = max(self._now, self._clocks.get(client, 0.0)) + max(size, _LEAST)
            if client:
                self._clocks[client] = clock
            job = _Job(clock, next(self._numbers), future, call)
            is_small = size <= self._small_size
            heapq.heappush(self._small if is_small else self._large, job)
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

    def _start(self) -> None:
        if self._is_started:
            return
        self._is_started = True
        both = [self._small, self._large]
        kinds = [both] * self._num_threads + [[self._small]] * (self._small_size > 0)
        with _stack_lock:
            before = threading.stack_size(self._stack_bytes)
            try:
                for number, heaps in enumerate(kinds):
                    threading.Thread(
                        target=self._run,
                        args=(heaps,),
                        name=f"{self._name}-{number}",
                        daemon=True,
                    ).start()
            finally:
                threading.stack_size(before)

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
