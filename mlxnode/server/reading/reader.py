"""Reads bodies: small ones at once, large ones in processes of the worker."""

import functools
import logging
import pickle
from collections import deque
from typing import Any

from mlxnode.fair_threads import FairThreads
from mlxnode.process.helper_process import HelperProcess
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
        self._idle: deque[HelperProcess] = deque()  # the last one was used last

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
            process = HelperProcess("mlxnode.server.reading.reader_process", _TIMEOUT)
        try:
            # Here, not on the event loop: an answer of many objects takes a while.
            answer: Answer = pickle.loads(process.ask(pickle.dumps(order), body))
            if answer.is_last:
                process.stop()
        except (OSError, EOFError) as error:
            seldom.log(logging.WARNING, "reader", "a large body was not read: %s", error)
            raise Unavailable("The request could not be read; try again") from error
        finally:
            self._idle.append(process)
        if isinstance(refused := answer.result, Refused):
            raise InvalidRequest(refused.message, param=refused.param, code=refused.code)
        return answer.result
