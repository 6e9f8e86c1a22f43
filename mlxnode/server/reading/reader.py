"""Reads bodies: small ones at once, large ones in processes of the worker."""

import contextlib
import functools
import logging
import pickle
import subprocess
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

from mlxnode.fair_threads import FairThreads
from mlxnode.process.helper_process import start_helper
from mlxnode.server.errors import InvalidRequest, Unavailable
from mlxnode.server.reading.reader_process import Answer, Order, Read, Refused, Schema, read
from mlxnode.server.reading.shape import is_small
from mlxnode.server.seldom import SeldomLog

seldom = SeldomLog(logging.getLogger("mlxnode.server"))

_LARGE = 2 * 1024 * 1024  # bytes; nobody with a smaller body waits for larger ones
_TIMEOUT = 60.0  # seconds; a body of 16 MB takes about two


class BodyReader:
    """Reads the bodies of one worker. Its processes start when they are first needed.

    They end with the worker, however it ends.
    """

    def __init__(self) -> None:
        self._threads = FairThreads("bodies", 1, small=_LARGE)
        self._idle: deque[_Process] = deque()  # the last one was used last

    async def read(
        self,
        body: bytes,
        schema: Schema,
        *,
        strict: bool = False,
        defaults: dict[str, Any] | None = None,
    ) -> Read:
        """``body`` as a ``schema``; ``strict`` refuses fields that nobody documents.

        Raises:
            InvalidRequest: the body is not JSON, or not valid.
            Unavailable: the process that read it has ended or was too slow.
        """
        order = Order(schema, strict, defaults or {})
        if is_small(body):
            return read(body, order)
        call = functools.partial(self._read, body, order)
        return await self._threads.run(call, size=len(body))

    def _read(self, body: bytes, order: Order) -> Read:
        try:
            process = self._idle.pop()
        except IndexError:
            process = _Process()
        try:
            return process.read(body, order)
        finally:
            self._idle.append(process)


class _Process:
    """A process that reads one body after another. It starts when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: Connection | None = None

    def read(self, body: bytes, order: Order) -> Read:
        """See ``BodyReader.read``."""
        try:
            answer = self._ask(body, order)
        except (OSError, EOFError) as error:
            self._stop()
            seldom.log(logging.WARNING, "reader", "a large body was not read: %s", error)
            raise Unavailable("The request could not be read; try again") from error
        if answer.is_last:
            self._stop()
        if isinstance(refused := answer.result, Refused):
            raise InvalidRequest(refused.message, param=refused.param, code=refused.code)
        return answer.result

    def _ask(self, body: bytes, order: Order) -> Answer:
        orders = self._started()
        orders.send_bytes(pickle.dumps(order))
        orders.send_bytes(body)
        if not orders.poll(_TIMEOUT):
            raise TimeoutError(f"no answer within {_TIMEOUT} s")
        # Here, not on the event loop: a body of many objects takes a while.
        return pickle.loads(orders.recv_bytes())

    def _started(self) -> Connection:
        if self._orders is None:
            self._process, ours = start_helper("mlxnode.server.reading.reader_process")
            self._orders = Connection(ours.detach())
        return self._orders

    def _stop(self) -> None:
        """End the process. The next body starts another one."""
        if self._orders is not None:
            self._orders.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self._process = self._orders = None
