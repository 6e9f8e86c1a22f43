"""The protocol between the engine's loop and its runners, one runner for each model."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from mlxnode.figures import RunnerFigures
from mlxnode.messages.data import Embed, Embedded, Failed, Generate, Update

CANNOT_SERVE = "the engine cannot serve this request"
# Only requests in the background get it.
GIVEN_BACK = "the model makes room for another one; try again later"


class RequestKey(NamedTuple):
    """A request is identified by its data pipe and the uid that the worker chose."""

    pipe_id: int
    uid: int


Call = tuple[int, int]  # a data pipe, and the number of an HTTP request of its worker


class Owner(NamedTuple):
    """Whom a request is for: who shares the engine with others, and what comes first."""

    key: str
    weight: float
    priority: int  # lower comes first
    call: Call

    @classmethod
    def of(cls, key: RequestKey, message: Generate | Embed) -> "Owner":
        """The owner that ``message`` names; without a call, it is a call of its own."""
        call = message.call or -message.uid
        return cls(message.key, message.weight, message.priority, (key.pipe_id, call))


class Output(NamedTuple):
    """One message to the worker that sent a request."""

    pipe_id: int
    message: Update | Embedded | Failed

    @property
    def key(self) -> RequestKey:
        return RequestKey(self.pipe_id, self.message.uid)

    @property
    def is_last(self) -> bool:
        """True if the request has ended with this message."""
        return not isinstance(self.message, Update) or self.message.finish is not None


class Youngest(NamedTuple):
    """The request of a runner that ends first when memory is short: the largest of all."""

    is_background: bool
    arrived_at: float
    key: RequestKey


class Runner(Protocol):
    """One model with its requests: those that wait and those that run."""

    @property
    def has_work(self) -> bool:
        """True if there is something to do for ``step``."""
        ...

    @property
    def step_seconds(self) -> float | None:
        """The duration of a decode step, None if no row is decoding."""
        ...

    @property
    def active(self) -> list[RequestKey]:
        """The requests that the current step works on, or the next one if none has begun."""
        ...

    def add(
        self, key: RequestKey, message: Generate | Embed, arrived_at: float | None = None
    ) -> Failed | None:
        """Queue a request that the engine has received at ``arrived_at`` (None: now).

        Returns why it is refused.
        """
        ...

    def abort(self, key: RequestKey) -> None:
        """Stop a request. A request that has ended may be aborted, too."""
        ...

    def fail(self) -> list[RequestKey]:
        """Drop the requests that a failed step has affected, and return them."""
        ...

    @property
    def youngest(self) -> Youngest | None:
        """The request that was started last and can be aborted."""
        ...

    def reserve_activations(self, available: int, context_length: int) -> int:
        """The bytes to keep free for forward passes, of ``available`` beside the weights.

        Requests have at most ``context_length`` tokens.
        """
        ...

    def measure_passes(self, context_length: int) -> Iterator[None]:
        """Measure what passes allocate, before the first request; yields between two."""
        ...

    @property
    def kv_needed(self) -> int:
        """The bytes of KV cache that must be left for the requests of now, so that all end."""
        ...

    def pause(self, is_paused: bool) -> None:
        """True: no further request starts while one runs."""
        ...

    def drop_caches(self) -> None:
        """Release the memory that only saves time later."""
        ...

    def figures(self) -> RunnerFigures:
        """What the runner does now, and what it has done since the start."""
        ...

    def step(
        self, others: Sequence["Runner"] = (), *, is_brief: bool = False
    ) -> Iterator[list[Output]]:
        """Run one step. Yields outputs as soon as they are known.

        ``others`` are the other runners of the engine: they share the device. If it
        ``is_brief``, requests that come first wait for its end: it takes little time.
        """
        ...

    @property
    def is_halted(self) -> bool:
        """True if nothing is under way, since ``halt`` or from the start."""
        ...

    def halt(self) -> Iterator[list[Output]]:
        """Stand still until the next step. Yields what was computed and not told."""
        ...

    def give_up(self) -> None:
        """Give up the memory of all requests, which go on later; nothing unless halted."""
        ...

    def do_idle_work(self) -> bool:
        """Do one task that can wait until nothing else is to do; False if there is none."""
        ...

    def close(self) -> None:
        """Release memory and threads. The runner is not used afterwards."""
        ...


def in_units(size: int) -> str:
    """A number of bytes in GB, MB or KB, with three digits at least."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.2f} {unit}"
    return f"{size / 1e3:.2f} KB"
