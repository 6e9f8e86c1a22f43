"""Rank 0's side of the mirrored calls: the others make each call that it makes."""

import weakref
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx

from mlxnode.config.several import Strategy
from mlxnode.engine import mirror
from mlxnode.engine.loader import split
from mlxnode.engine.mirror import Mirrored
from mlxnode.engine.ranks.arguments import pack
from mlxnode.errors import ModelError
from mlxnode.messages.message import Message
from mlxnode.messages.ranks import Call, Loaded, LoadPart, NotLoaded, Plan
from mlxnode.models.fingerprints import fingerprints
from mlxnode.models.served import ServedModel


class Ranks(Protocol):
    """The other ranks, as ``cluster`` connects them."""

    @property
    def size(self) -> int: ...

    @property
    def group(self) -> mx.distributed.Group: ...

    def send(self, message: Message) -> None: ...

    def replies(self) -> Iterator[tuple[int, Loaded | NotLoaded]]: ...

    def describe(self, rank: int) -> str: ...


class Leader:
    """Sends plans, each before rank 0 makes its call.

    Objects that all ranks have get a handle. When rank 0 has no reference to one any more, the
    others release theirs, before the next call. All calls are made on the engine's thread.
    """

    def __init__(self, ranks: Ranks):
        self._ranks = ranks
        self._handles: dict[int, int] = {}  # by the id of an object
        self._next_handle = 0
        self._num_calls = 0
        self._dropped: list[int] = []
        self._is_inside = False  # a mirrored function, which may call others

    def load_elsewhere(self, served: ServedModel, strategy: Strategy) -> int:
        """Let the others load their parts of a model; returns its handle."""
        handle = self._new_handle()
        home, files = str(Path.home()), fingerprints(served.weights)
        self._ranks.send(LoadPart(handle, served, strategy, files, home))
        return handle

    def wait_for_parts(self, handle: int) -> Generator[None, None, list[Loaded]]:
        """What the others say of their parts, once all are loaded; yields until then.

        Raises:
            ModelError: a rank cannot load its part.
        """
        loaded: list[Loaded] = []
        while len(loaded) < self._ranks.size - 1:
            for rank, reply in self._ranks.replies():
                if reply.handle != handle:
                    continue  # of a load that was given up
                if isinstance(reply, NotLoaded):
                    raise ModelError(f"{self._ranks.describe(rank)}: {reply.reason}")
                loaded.append(reply)
            yield
        return loaded

    def adopt(self, thing: object, handle: int) -> None:
        """Know ``thing``, of which each rank has its part, as ``handle``."""
        self._handles[id(thing)] = handle
        weakref.finalize(thing, self._drop, id(thing), handle).atexit = False

    def release(self, handle: int) -> None:
        """Let the others release what they have as ``handle``, which is not known here."""
        self._dropped.append(handle)
        self.flush()

    def call(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Make a call, on all ranks if an argument has a handle."""
        if self._is_inside or not any(map(self._is_shared, arguments)):
            return function(*arguments, **options)
        handle = self._new_handle()
        packed = [pack(value, self._handle_of) for value in arguments]
        self._num_calls += 1
        self._send_plan([Call(name, packed, options, handle)])
        self._is_inside = True
        try:
            shared = [
                broadcast(value, self._ranks.group) if isinstance(value, mx.array) else value
                for value in arguments
            ]
            result = function(*shared, **options)
        except BaseException:
            self._send_plan([], failed=self._num_calls)
            raise
        finally:
            self._is_inside = False
        self._keep(result, handle)
        return result

    def flush(self) -> None:
        """Let the others release what has no reference here any more, and freed buffers."""
        self._send_plan([])

    def _keep(self, result: Any, handle: int) -> None:
        if not isinstance(result, Mirrored):
            return  # the others keep nothing of it
        if id(result) in self._handles:
            self._dropped.append(handle)  # the function has returned one of its arguments
            return
        self.adopt(result, handle)

    def _send_plan(self, calls: list[Call], failed: int | None = None) -> None:
        dropped, self._dropped = self._dropped, []
        self._ranks.send(Plan(calls, dropped, failed))

    def _new_handle(self) -> int:
        self._next_handle += 1
        return self._next_handle

    def _handle_of(self, thing: object) -> int | None:
        return self._handles.get(id(thing))

    def _is_shared(self, value: Any) -> bool:
        if isinstance(value, list | tuple) and value and not isinstance(value, Mirrored):
            return id(value[0]) in self._handles
        return id(value) in self._handles

    def _drop(self, key: int, handle: int) -> None:
        self._handles.pop(key, None)
        self._dropped.append(handle)


def broadcast(array: mx.array, group: mx.distributed.Group) -> mx.array:
    """``array`` of rank 0, on all ranks; the others give an array of zeros.

    It is under way when this returns: collectives meet in the order of their evaluation.
    """
    shared = mx.distributed.all_sum(array, group=group)
    mx.async_eval(shared)
    return shared


def led(ranks: Ranks, default: Strategy) -> Leader:
    """Mirror the calls of this process on ``ranks`` from now on.

    ``default`` is the strategy of models that say nothing.
    """
    split.use(ranks.group, default)
    leader = Leader(ranks)
    mirror.install(leader)
    return leader
