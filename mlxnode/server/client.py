"""The worker's end of the data pipe: requests out, tokens and vectors back.

Everything here runs on the event loop except the pipe's own threads, which hand over each
message with ``call_soon_threadsafe``: one hand-over per engine step, whatever the number
of requests.
"""

import asyncio
import itertools
import logging
from multiprocessing.connection import Connection

from mlxnode.messages import (
    Abort,
    Embed,
    Embedded,
    EngineToWorker,
    Failed,
    Generate,
    Sampling,
    Tokens,
    Update,
)
from mlxnode.process.pipe import Pipe
from mlxnode.server.errors import ApiError, EngineFailed, InvalidRequest, Unavailable

logger = logging.getLogger("mlxnode.server")


class Call:
    """What one HTTP request asked of the engine: one or more requests, one inbox.

    A context manager: whatever is unfinished on leaving it is aborted.
    """

    def __init__(self, client: "EngineClient"):
        self._client = client
        self._uids: list[int] = []
        self._inbox: list[tuple[int, Update | Embedded]] = []
        self._error: ApiError | None = None
        self._arrival = asyncio.Event()

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, *_: object) -> None:
        for index in range(len(self._uids)):
            self.abort(index)

    async def receive(self) -> list[tuple[int, Update | Embedded]]:
        """Wait, then take all that has arrived: (index of the request, what came).

        Raises:
            ApiError: the engine refused, failed or went away.
        """
        await self._arrival.wait()
        if not self._inbox and self._error is not None:
            raise self._error
        inbox, self._inbox = self._inbox, []
        if self._error is None:
            self._arrival.clear()
        return inbox

    @property
    def has_failed(self) -> bool:
        """Whether the engine refused, failed or went away."""
        return self._error is not None

    def abort(self, index: int) -> None:
        """Stop one of the requests, if it still runs."""
        self._client.abort(self._uids[index])

    def add(self, uid: int) -> int:
        self._uids.append(uid)
        return len(self._uids) - 1

    def deliver(self, index: int, reply: Update | Embedded) -> None:
        self._inbox.append((index, reply))
        self._arrival.set()

    def fail(self, error: ApiError) -> None:
        self._error = error
        self._arrival.set()


class EngineClient:
    """Sends requests to whichever engine is connected."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._pipe: Pipe | None = None
        self._uids = itertools.count(1)
        self._waiting: dict[int, tuple[Call, int]] = {}  # by uid; the index within the call

    @property
    def is_connected(self) -> bool:
        return self._pipe is not None

    def check_connected(self) -> None:
        """Raises Unavailable without an engine, before work is spent on a request."""
        if self._pipe is None:
            raise Unavailable("The engine is loading or restarting; try again in a moment")

    def connect(self, connection: Connection) -> None:
        """Use a new pipe; what was in flight on an old one fails."""
        self.close()

        def on_message(message: EngineToWorker) -> None:
            self._loop.call_soon_threadsafe(self._dispatch, message)

        def on_close() -> None:
            self._loop.call_soon_threadsafe(self._lose, pipe)

        pipe = Pipe(connection, EngineToWorker, on_message, on_close, name="engine")
        self._pipe = pipe.start()

    def close(self) -> None:
        if self._pipe is not None:
            pipe = self._pipe
            self._lose(pipe)
            pipe.close()

    def generate(
        self,
        model: str,
        prompts: list[list[int]],
        max_tokens: list[int],
        stop_ids: list[int],
        samplings: list[Sampling],
    ) -> Call:
        """Continue each of ``prompts`` by at most its own of ``max_tokens``, once for each of
        ``samplings``.

        ``Update``s come back under the index of the choice: all of the first prompt first.
        """
        call = Call(self)
        for prompt, most in zip(prompts, max_tokens, strict=True):
            for sampling in samplings:
                uid = self._register(call)
                message = Generate(
                    uid=uid,
                    model=model,
                    prompt=prompt,
                    max_tokens=most,
                    stop_ids=stop_ids,
                    sampling=sampling,
                )
                self._send(message, call)
        return call

    def embed(self, model: str, inputs: list[list[int]], dimensions: int | None) -> Call:
        """Embed ``inputs``; one ``Embedded`` comes back."""
        call = Call(self)
        uid = self._register(call)
        message = Embed(uid=uid, model=model, inputs=inputs, dimensions=dimensions)
        self._send(message, call)
        return call

    def abort(self, uid: int) -> None:
        if self._waiting.pop(uid, None) is not None and self._pipe is not None:
            self._pipe.send(Abort(uid))

    def _register(self, call: Call) -> int:
        uid = next(self._uids)
        self._waiting[uid] = (call, call.add(uid))
        return uid

    def _send(self, message: Generate | Embed, call: Call) -> None:
        if self._pipe is None or not self._pipe.send(message):
            call.__exit__()
            self.check_connected()
            raise Unavailable("The engine does not keep up with the requests")

    def _dispatch(self, message: EngineToWorker) -> None:
        if isinstance(message, Tokens):
            for update in message.updates:
                self._deliver(update, is_last=update.finish is not None)
        elif isinstance(message, Failed):
            call, _ = self._waiting.pop(message.uid, (None, 0))
            if call is not None:
                call.fail(_to_api_error(message))
        else:
            self._deliver(message, is_last=True)

    def _deliver(self, reply: Update | Embedded, *, is_last: bool) -> None:
        # A request that was aborted may still be answered for a step: it is not known here.
        take = self._waiting.pop if is_last else self._waiting.get
        call, index = take(reply.uid, (None, 0))
        if call is not None:
            call.deliver(index, reply)

    def _lose(self, pipe: Pipe) -> None:
        if pipe is not self._pipe:
            return
        self._pipe = None
        logger.debug("engine pipe closed, %d requests in flight", len(self._waiting))
        lost, self._waiting = self._waiting, {}
        for call, _ in lost.values():
            call.fail(Unavailable("The engine stopped during this request; try again"))


def _to_api_error(failed: Failed) -> ApiError:
    if failed.reason == "overloaded":
        return Unavailable(failed.message)
    if failed.reason == "too_large":
        return InvalidRequest(failed.message, code="request_too_large")
    return EngineFailed(failed.message)
