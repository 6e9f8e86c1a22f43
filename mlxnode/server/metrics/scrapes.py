"""The answers to scrapes: a helper process renders them, at most once a second."""

import asyncio
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mlxnode.process.helper_process import HelperProcess
from mlxnode.server.metrics.rendering import Order

_FRESH = 1.0  # seconds
_TIMEOUT = 20.0  # seconds; Prometheus waits for ten


class Scrapes:
    """Of one worker. The process starts with the first scrape, and ends when none comes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        # One thread: one order at a time, also when a client leaves before its answer is there.
        self._thread = ThreadPoolExecutor(1, "scrapes")
        self._helper = HelperProcess("mlxnode.server.metrics.rendering", _TIMEOUT)
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
            question = pickle.dumps(order)
            try:
                rendered = self._helper.ask(question)
            except (EOFError, ConnectionError):  # it may have ended since the last scrape
                rendered = self._helper.ask(question)
            self._rendered[kind] = self._clock(), rendered
        return rendered
