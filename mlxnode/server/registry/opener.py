"""Opens models when they are first needed, and forgets them when nobody needs them any more."""

import asyncio
import time
from collections.abc import Callable, Container

from mlxnode.errors import panics_caught, reason_of
from mlxnode.models.served import ServedModel
from mlxnode.server.errors import RETRY_FAILED, ModelFailed, is_shortage
from mlxnode.server.registry.opened import ServerModel

_AT_ONCE = 2  # an opening takes up to two processors, and memory of its own
# Open models that the engine does not hold, for requests that need the tokenizer alone.
_SPARE = 4


class Opener:
    """The open models by id. All of it runs on the event loop, except the opening itself.

    A request keeps the model that it uses alive: what is forgotten here goes with the last one.
    """

    def __init__(
        self,
        open_one: Callable[[ServedModel], ServerModel],
        retry_after: float = RETRY_FAILED,
    ):
        """``open_one`` is called in a thread; it may raise any exception.

        What it could not open is tried again after ``retry_after`` seconds.
        """
        self._open_one = open_one
        self._retry_after = retry_after
        self._open: dict[str, ServerModel] = {}  # the least recently used first
        self._openings: dict[str, asyncio.Task[ServerModel]] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._failures: dict[str, tuple[str, float]] = {}  # with their times

    @property
    def failed(self) -> dict[str, str]:
        """Why each model could not be opened when that was tried last, by id."""
        return {id: reason for id, (reason, _) in self._failures.items()}

    def refusal(self, model_id: str) -> str | None:
        """Why the model is not opened now; None: it can be tried."""
        reason, failed_at = self._failures.get(model_id, (None, 0.0))
        return reason if time.monotonic() < failed_at + self._retry_after else None

    @property
    def ids(self) -> list[str]:
        """The open models, the least recently used first."""
        return list(self._open)

    async def open(self, served: ServedModel) -> ServerModel:
        """The open model. It is opened once for all who wait for it.

        A caller that is cancelled cancels no opening.

        Raises:
            ModelFailed: its files cannot be used; also for later calls, for a while.
        """
        found = self._open.pop(served.id, None)
        if found is not None:
            self._open[served.id] = found
            return found
        if (reason := self.refusal(served.id)) is not None:
            raise ModelFailed(served.id, reason)
        opening = self._openings.get(served.id)
        if opening is None:
            opening = asyncio.get_running_loop().create_task(self._run(served))
            self._openings[served.id] = opening
            opening.add_done_callback(_take_exception)
        return await asyncio.shield(opening)

    async def _run(self, served: ServedModel) -> ServerModel:
        id, own = served.id, asyncio.current_task()
        try:
            async with self._room:
                found = await asyncio.to_thread(self._call, served)
        except ModelFailed as error:
            if self._openings.get(id) is own:
                self._failures[id] = error.reason, time.monotonic()
            raise
        else:
            if self._openings.get(id) is own:
                self._open[id] = found
                self._failures.pop(id, None)
            return found
        finally:
            if self._openings.get(id) is own:
                del self._openings[id]

    def _call(self, served: ServedModel) -> ServerModel:
        try:
            with panics_caught():
                return self._open_one(served)
        except Exception as error:
            if is_shortage(error):  # the next request may have better luck
                raise
            raise ModelFailed(served.id, reason_of(error)) from error

    def forget(self, model_id: str) -> None:
        """Open the model anew when it is needed next, also if it could not be opened."""
        self._failures.pop(model_id, None)
        self._open.pop(model_id, None)
        self._openings.pop(model_id, None)  # it ends for those who wait, and is not kept

    def try_again(self, model_id: str) -> None:
        """Let the next request open the model, if it could not be opened."""
        self._failures.pop(model_id, None)

    def trim(self, held: Container[str]) -> None:
        """Forget the least recently used models, apart from a few and from ``held``."""
        spare = [id for id in self._open if id not in held]
        for id in spare[: max(0, len(spare) - _SPARE)]:
            del self._open[id]


def _take_exception(task: "asyncio.Task[ServerModel]") -> None:
    """Those who waited may all have left: nobody else would take it, and asyncio would log."""
    if not task.cancelled():
        task.exception()
