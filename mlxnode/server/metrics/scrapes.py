"""The answers to scrapes: a helper process renders them, at most once a second."""

import asyncio
import contextlib
import pickle
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

from mlxnode.process.helper_process import start_helper
from mlxnode.server.metrics.rendering import Order

_FRESH = 1.0  # seconds
_TIMEOUT = 20.0  # seconds; Prometheus waits for ten


class Scrapes:
    """Of one worker. The process starts with the first scrape, and ends when none comes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        # One thread: one order at a time, also when a client leaves before its answer is there.
        self._thread = ThreadPoolExecutor(1, "scrapes")
        self._helper = _Helper()
        self._rendered: dict[tuple[str, bool], tuple[float, bytes]] = {}  # when, what

    async def render(self, order: Order) -> bytes:
        """What ``order`` asks for; a second later at most, it is rendered anew.

        Raises:
            OSError, EOFError: the process cannot be started, has ended or is too slow.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._render, order
        )

    def _render(self, order: Order) -> bytes:
        kind = order.form, order.is_compressed
        when, rendered = self._rendered.get(kind, (0.0, b""))
        if not rendered or self._clock() - when >= _FRESH:
            rendered = self._helper.render(order)
            self._rendered[kind] = self._clock(), rendered
        return rendered


class _Helper:
    """The process. It may have ended since the last order; then it starts again."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: Connection | None = None

    def render(self, order: Order) -> bytes:
        """See ``Scrapes.render``."""
        try:
            if self._orders is not None:
                with contextlib.suppress(EOFError, ConnectionError):
                    return self._ask(order, self._orders)
                self._stop()
            return self._ask(order, self._start())
        except (OSError, EOFError):
            self._stop()
            raise

    def _start(self) -> Connection:
        self._process, ours = start_helper("mlxnode.server.metrics.rendering")
        self._orders = Connection(ours.detach())
        return self._orders

    def _ask(self, order: Order, orders: Connection) -> bytes:
        orders.send_bytes(pickle.dumps(order))
        if not orders.poll(_TIMEOUT):
            raise TimeoutError(f"no answer within {_TIMEOUT:g} s")
        return orders.recv_bytes()

    def _stop(self) -> None:
        if self._orders is not None:
            self._orders.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self._process = self._orders = None
