"""The worker's end of the data pipe: sends requests, receives tokens and vectors.

All of it runs on the event loop, except the threads of the pipe. They hand over each message
with ``call_soon_threadsafe``: once for each engine step, whatever the number of requests.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

from mlxnode.messages.data import (
    Abort,
    Done,
    Embed,
    Embedded,
    EngineToWorker,
    Failed,
    Generate,
    Load,
    ModelStates,
    Sampling,
    Tokens,
    Unload,
    Update,
)
from mlxnode.process.pipe import Pipe
from mlxnode.server.client.engine_call import EngineCall, Sender
from mlxnode.server.errors import (
    ApiError,
    EngineFailed,
    InvalidRequest,
    ModelFailed,
    RequestRefused,
    Unavailable,
)
from mlxnode.server.prompt.context_length import Prompt

Result = TypeVar("Result")

logger = logging.getLogger("mlxnode.server")

_STOPPED = "The engine stopped during this request; try again"


class EngineClient:
    """Sends requests to the engine that is connected at the time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_busy: Callable[[bool], object],
        on_states: Callable[[ModelStates | None], object] = lambda states: None,
    ):
        """``on_busy`` is called when the first request starts, and when none runs any more.

        ``on_states`` is called when the engine tells the states of its models, and with None
        when there is no engine any more.
        """
        self._loop = loop
        self._on_busy = on_busy
        self._on_states = on_states
        self._num_running = 0
        self._pipe: Pipe | None = None  # None: no engine is connected
        self._silent_since: float | None = None  # on the loop's clock; None: the engine answers
        self._uids = itertools.count(1)
        self._calls = itertools.count(1)
        # The running requests by uid: sequences with their index in a call, embeddings with
        # their model, and orders to load or unload a model.
        self._sequences: dict[int, tuple[EngineCall, int]] = {}
        self._embeddings: dict[int, tuple[asyncio.Future[Embedded], str]] = {}
        self._orders: dict[int, tuple[asyncio.Future[None], str]] = {}

    def check_connected(self) -> None:
        """Raises Unavailable without an engine, before any work on a request."""
        if self._pipe is None:
            raise Unavailable("The engine is loading or restarting; try again in a moment")

    def check_answering(self) -> None:
        """Raises Unavailable without an engine, or if it has been silent for some seconds.

        A request may wait for such an engine: it can be busy with a long step.
        """
        self.check_connected()
        if self._silent_since is not None:
            seconds = self._loop.time() - self._silent_since
            raise Unavailable(f"The engine has not answered for {seconds:.0f} s")

    def set_silent(self, seconds: float | None) -> None:
        """The engine has not answered for ``seconds``; None: it answers."""
        self._silent_since = None if seconds is None else self._loop.time() - seconds

    def connect(self, connection: Connection) -> None:
        """Use a new pipe; the requests on the old pipe fail."""
        self.shut_down(_STOPPED)
        self.set_silent(None)

        def on_message(message: EngineToWorker) -> None:
            self._loop.call_soon_threadsafe(self._dispatch, message)

        def on_close() -> None:
            self._loop.call_soon_threadsafe(self._lose, pipe, _STOPPED)

        pipe = Pipe(connection, EngineToWorker, on_message, on_close, name="engine")
        self._pipe = pipe.start()

    def shut_down(self, reason: str) -> None:
        """End all requests with a 503; there is no engine for further ones."""
        if self._pipe is not None:
            pipe = self._pipe
            self._lose(pipe, reason)
            pipe.close()

    @contextlib.contextmanager
    def generate(
        self,
        model: str,
        prompts: list[Prompt],
        stop_ids: list[int],
        samplings: list[Sampling],
        sender: Sender,
    ) -> Iterator[EngineCall]:
        """Continue each of ``prompts`` once with each of ``samplings``, for ``sender``.

        The updates have the index of their sequence: all sequences of the first prompt come
        first. On leaving the context, the sequences that are still running are aborted.

        Raises:
            Unavailable: no engine is connected, or its pipe is full.
        """
        call, number = EngineCall(self.abort, model), next(self._calls)
        with self._busy():
            try:
                for prompt in prompts:
                    for sampling in samplings:
                        uid = next(self._uids)
                        self._sequences[uid] = call, call.add(uid)
                        message = Generate(
                            uid=uid,
                            model=model,
                            prompt=prompt.ids,
                            max_tokens=prompt.max_tokens,
                            stop_ids=stop_ids,
                            sampling=sampling,
                            borders=[*prompt.borders],
                            key=sender.key,
                            weight=sender.weight,
                            priority=sender.priority,
                            background=sender.background,
                            call=number,
                        )
                        self._send(message)
                yield call
            finally:
                call.abort_all()

    async def embed(
        self,
        model: str,
        inputs: list[list[int]],
        dimensions: int | None = None,
        starts: Sequence[int] = (),
        *,
        sender: Sender,
    ) -> Embedded:
        """Embed ``inputs``, which are token ids. A caller that is cancelled aborts.

        ``starts``: of the second text in each input; see ``messages.Embed``.

        Raises:
            ApiError: the engine refused the request, failed or went away.
        """
        uid = next(self._uids)
        future: asyncio.Future[Embedded] = self._loop.create_future()
        self._embeddings[uid] = future, model
        with self._busy():
            try:
                self._send(
                    Embed(
                        uid=uid,
                        model=model,
                        inputs=inputs,
                        dimensions=dimensions,
                        starts=list(starts),
                        key=sender.key,
                        weight=sender.weight,
                        priority=sender.priority,
                        background=sender.background,
                        call=next(self._calls),
                    )
                )
                return await future
            finally:
                self.abort(uid)

    async def load(self, model: str, *, pin: bool | None = None) -> None:
        """Have the engine load ``model``, and pin it or not; None: as it was.

        A caller that is cancelled does not cancel the load.

        Raises:
            ModelFailed: the model cannot be loaded.
            ApiError: the engine failed or went away.
        """
        await self._order(Load(next(self._uids), model, pin))

    async def unload(self, model: str) -> None:
        """Have the engine unload ``model`` once its requests have ended. Raises as ``load``."""
        await self._order(Unload(next(self._uids), model))

    async def _order(self, message: Load | Unload) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._orders[message.uid] = future, message.model
        try:
            with self._busy():
                self._send(message)
                await future
        finally:
            self._orders.pop(message.uid, None)

    def abort(self, uid: int) -> None:
        """Stop a request, if it is still running."""
        sequence = self._sequences.pop(uid, None)
        embedding = self._embeddings.pop(uid, None)
        if self._pipe is not None and (sequence or embedding):
            self._pipe.send(Abort(uid))

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        """One more request runs."""
        self._num_running += 1
        if self._num_running == 1:
            self._on_busy(True)
        try:
            yield
        finally:
            self._num_running -= 1
            if self._num_running == 0:
                self._on_busy(False)

    def _send(self, message: Generate | Embed | Load | Unload) -> None:
        if self._pipe is None or not self._pipe.send(message):
            self.check_connected()
            raise Unavailable("The engine does not keep up with the requests")

    # The engine may still answer a request that was aborted: its uid is unknown here. The
    # future of a caller that was cancelled is done before the caller can abort.

    def _dispatch(self, message: EngineToWorker) -> None:
        if isinstance(message, Tokens):
            for update in message.updates:
                self._deliver(update)
        elif isinstance(message, Failed):
            self._fail(message.uid, functools.partial(_to_api_error, message))
        elif isinstance(message, Embedded):
            _resolve(self._embeddings.pop(message.uid, None), message)
        elif isinstance(message, Done):
            _resolve(self._orders.pop(message.uid, None), None)
        elif isinstance(message, ModelStates):
            self._on_states(message)

    def _deliver(self, update: Update) -> None:
        is_last = update.finish is not None
        take = self._sequences.pop if is_last else self._sequences.get
        sequence = take(update.uid, None)
        if sequence is not None:
            call, index = sequence
            call.deliver(index, update)

    def _fail(self, uid: int, error_of: Callable[[str], ApiError]) -> None:
        """End a request with the error that ``error_of`` makes for its model."""
        if (sequence := self._sequences.pop(uid, None)) is not None:
            call, _ = sequence
            call.fail(error_of(call.model))
        waiting = self._embeddings.pop(uid, None) or self._orders.pop(uid, None)
        if waiting is not None:
            future, model = waiting
            if not future.done():
                future.set_exception(error_of(model))

    def _lose(self, pipe: Pipe, reason: str) -> None:
        if pipe is not self._pipe:
            return
        self._pipe = None
        self._on_states(None)
        uids = [*self._sequences, *self._embeddings, *self._orders]
        logger.debug("engine pipe closed, %d requests in flight", len(uids))
        for uid in uids:
            self._fail(uid, lambda model: Unavailable(reason))


def _resolve(waiting: tuple[asyncio.Future[Result], str] | None, result: Result) -> None:
    """Hand over ``result``, if somebody still waits for it."""
    if waiting is not None and not waiting[0].done():
        waiting[0].set_result(result)


def _to_api_error(failed: Failed, model: str) -> ApiError:
    if failed.reason == "model":
        return ModelFailed(model, failed.message)
    if failed.reason == "overloaded":
        return Unavailable(failed.message)
    if failed.reason == "poisonous":
        return RequestRefused(failed.message)
    if failed.reason == "too_large":
        return InvalidRequest(failed.message, code="request_too_large")
    return EngineFailed(failed.message)
