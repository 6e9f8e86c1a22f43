"""A model that the engine can serve, in memory or not, and who asks for it."""

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mlxnode.engine.lanes import Lanes
from mlxnode.engine.residency.waiting import WaitingForModel
from mlxnode.engine.work import RequestKey
from mlxnode.figures import ModelState
from mlxnode.models.fit import MemoryNeeds
from mlxnode.models.served import ServedModel

RETRY_AFTER = 60.0  # seconds after a failed load, a request tries it again
# Seconds without requests in the foreground, until a load that only the background waits for
# may unload a model: long enough that a conversation does not find its model gone.
BACKGROUND_IDLE = 60.0

# What decides nothing in how a model is loaded.
_AT_RUN_TIME: dict[str, Any] = {
    "default_temperature": None,
    "thinking_budget": None,
    "thinking_budget_message": "",
    "allow_control_tokens": None,
    "truncate_inputs": False,
    "allow_bare_token_ids": False,
    "preload": True,
    "is_pinned": False,
    "idle_unload": None,
    "matryoshka": (),
}


class WeightsKey(NamedTuple):
    """Text models with the same key share a runner. An embedding model has one of its own."""

    weights: Path
    version: tuple[int, int]  # bytes and time of the files
    adapter: Path | None
    quantize: int | None
    strategy: str | None
    owner: str  # "", or the id of an embedding model

    @classmethod
    def of(cls, model: ServedModel) -> "WeightsKey":
        owner = "" if model.generates_text else f"{model.id} {model.type} {model.dimensions}"
        version = model.size_bytes, model.created
        return cls(model.weights, version, model.adapter, model.quantize, model.strategy, owner)

    @property
    def base(self) -> tuple[Path, int | None, str]:
        """The same for adapters of one base, which share its arrays."""
        return self.weights, self.quantize, self.owner


def is_same(first: ServedModel, other: ServedModel) -> bool:
    """True if a model that was loaded as ``first`` can serve ``other``."""
    return replace(first, **_AT_RUN_TIME) == replace(other, **_AT_RUN_TIME)


@dataclass(eq=False)
class LoadedRunner:
    """A runner with its weights, for one model or for several with the same weights.

    ``weights``: the bytes of each array, by its identity; runners can have arrays in common.
    ``activations`` is the least that its passes need. While ``is_closed``, new requests wait;
    while ``is_leaving``, they wait for the next load.
    """

    key: WeightsKey
    runner: Lanes
    weights: dict[int, int] = field(repr=False)
    context_length: int  # of the longest model
    activations: int = 0
    models: list["KnownModel"] = field(default_factory=list)
    is_leaving: bool = False
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.weight_bytes = sum(self.weights.values())

    @property
    def is_busy(self) -> bool:
        """True if requests in its foreground have not ended: the others can be given back."""
        return any(model.requests - model.background for model in self.models)

    @property
    def is_in_use(self) -> bool:
        """True if requests of it have not ended."""
        return any(model.requests for model in self.models)

    @property
    def gives_back(self) -> bool:
        """True if it makes room for another model."""
        return self.is_leaving or self.is_closed

    @property
    def is_going(self) -> bool:
        """True if it leaves, unless another model is loaded with the same weights."""
        return self.is_leaving or all(model.is_leaving for model in self.models)

    @property
    def is_pinned(self) -> bool:
        return any(model.is_pinned and not model.is_leaving for model in self.models)

    @property
    def used_at(self) -> float:
        """When a request in the foreground came last, on the clock of the residency."""
        return max((model.used_at for model in self.models), default=0.0)

    def is_free_at(self, now: float) -> bool:
        """True if a load that only the background waits for may take its memory."""
        last = max((model.foreground_at for model in self.models), default=0.0)
        return not self.is_pinned and not self.is_in_use and now - last >= BACKGROUND_IDLE


@dataclass(eq=False)
class KnownModel:
    """One model id: its state, its requests, and who waits for it."""

    served: ServedModel
    is_pinned: bool
    loaded: LoadedRunner | None = None
    is_wanted: bool = False  # to be loaded, whether or not a request waits
    is_leaving: bool = False  # to be unloaded once its requests have ended
    is_gone: bool = False  # configured no more, or replaced
    needs: MemoryNeeds | None = None  # as measured when it was loaded
    num_loads: int = 0
    used_at: float = field(default_factory=time.monotonic)  # a request came, or the load
    ended_at: float | None = None  # the last request
    failure: str | None = None  # why it could not be loaded
    retry_at: float = math.inf  # when a request may try a failed model again
    foreground_at: float = field(default_factory=time.monotonic)  # used there, or loaded
    postponed_until: float = 0.0  # a load that only the background waits for
    requests: set[RequestKey] = field(default_factory=set)
    background: set[RequestKey] = field(default_factory=set)  # of these
    waiting: WaitingForModel = field(default_factory=WaitingForModel)
    loads: set[RequestKey] = field(default_factory=set)  # ``Load`` messages without answer
    unloads: set[RequestKey] = field(default_factory=set)  # ``Unload`` messages

    @property
    def id(self) -> str:
        return self.served.id

    @property
    def key(self) -> WeightsKey:
        return WeightsKey.of(self.served)

    @property
    def state(self) -> ModelState:
        if self.loaded is None:
            return "loading" if self.is_asked_for else "unloaded"
        return "unloading" if self.is_leaving or self.loaded.is_leaving else "loaded"

    @property
    def is_asked_for(self) -> bool:
        """True if it is to be loaded."""
        return bool(self.is_wanted or self.loads or self.waiting)

    @property
    def is_for_background(self) -> bool:
        """True if nobody waits for its load but requests in the background."""
        is_asked = bool(self.is_wanted or self.loads)
        return not is_asked and self.waiting.num_background == len(self.waiting) > 0

    def is_postponed(self, now: float) -> bool:
        """True if its load is tried again later."""
        return self.is_for_background and now < self.postponed_until

    @property
    def may_displace(self) -> bool:
        """True if others make room: somebody waits for it."""
        return bool(self.loads or self.waiting)

    @property
    def accepts(self) -> bool:
        """True if a new request can run."""
        return self.state == "loaded" and self.loaded is not None and not self.loaded.is_closed

    def idle_seconds(self, now: float) -> float | None:
        """Since the last request has ended; None: requests run, or there was none."""
        return None if self.requests or self.ended_at is None else now - self.ended_at

    @property
    def last_at(self) -> float:
        """When it was used last, or loaded."""
        return max(self.used_at, self.ended_at or 0.0)

    @property
    def changes_at(self) -> float:
        """When it is unloaded unless it is used, or is tried again; infinity: never."""
        if self.failure is not None:
            return self.retry_at
        if self.is_postponed(time.monotonic()):
            return self.postponed_until
        is_idle = self.state == "loaded" and not self.requests and not self.is_asked_for
        if is_idle and not self.is_pinned and self.served.idle_unload is not None:
            return self.last_at + self.served.idle_unload
        return math.inf
