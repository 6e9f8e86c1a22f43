"""The mirrored calls on a rank other than 0, with its part of the models."""

import functools
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import mlx.core as mx

import mlxnode.engine.decode.parts  # noqa: F401 - with it come all mirrored functions
from mlxnode.engine import cpu
from mlxnode.engine.mirror import FUNCTIONS, Mirrored
from mlxnode.engine.ranks.arguments import unpack
from mlxnode.engine.ranks.leader import broadcast
from mlxnode.errors import reason_of
from mlxnode.messages.ranks import Call, Plan

# After a call has failed here, in which rank 0 says that it has failed there, too. If it has
# not, it waits in a collective for this rank.
AGREE_SECONDS = 2.0


class Stray(Exception):
    """This rank and rank 0 do not do the same any more; all ranks have to start again."""


class Calls:
    """Makes the calls of plans, and keeps what they return under its handle."""

    def __init__(self, group: mx.distributed.Group, end: Callable[[str], NoReturn]):
        """``end`` ends this process for a reason, from any thread."""
        self._receive = functools.partial(broadcast, group=group)
        self._end = end
        self._things: dict[int, Any] = {}
        self._weights: dict[int, int] = {}  # bytes of each model
        self.num_calls = 0
        self._failed: BaseException | None = None  # what the last call has raised
        self._patience: threading.Timer | None = None

    @property
    def weights(self) -> int:
        """The bytes of the parts of all models."""
        return sum(self._weights.values())

    def adopt(self, handle: int, model: object, weights: int = 0) -> None:
        """Keep the part of a model, of ``weights`` bytes, that rank 0 knows as ``handle``."""
        self._things[handle] = model
        self._weights[handle] = weights

    def follow(self, plan: Plan) -> None:
        """Make the calls of ``plan``.

        Raises:
            Stray: a call has failed on this rank or on rank 0 alone.
        """
        self._agree(plan)
        for handle in plan.dropped:
            self._things.pop(handle, None)
            self._weights.pop(handle, None)
        if not plan.calls:
            cpu.release_memory()
            mx.clear_cache()
        for call in plan.calls:
            self._make(call)

    def _agree(self, plan: Plan) -> None:
        failed, self._failed = self._failed, None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if (failed is None) != (plan.failed is None):
            where = "on rank 0" if failed is None else "here"
            raise Stray(f"call {self.num_calls} has failed {where} alone") from failed

    def _make(self, call: Call) -> None:
        self.num_calls += 1
        arguments = [unpack(value, self._things, self._receive) for value in call.arguments]
        try:
            result = FUNCTIONS[call.name](*arguments, **call.options)
        except Exception as error:  # of any type: rank 0 has the same, or ends
            self._failed = error
            reason = f"{call.name} has failed here alone: {reason_of(error)}"
            self._patience = threading.Timer(AGREE_SECONDS, self._end, [reason])
            self._patience.daemon = True
            self._patience.start()
            return
        if isinstance(result, Mirrored):
            self._things[call.result] = result
