"""Where the rate limits of a node are counted: the interface, and the store in this process."""

from collections.abc import Callable, Collection, Hashable
from typing import Protocol

from mlxnode.config.tables import ApiConfig
from mlxnode.messages.control import Reserve, Reserved, Settle, Used
from mlxnode.process.ledger import Ledger

Claiming = Reserve | Used | Settle
Answer = Callable[[Reserved], object]


class LimitStore(Protocol):
    """Takes what workers report, in order. No call waits for another machine."""

    # True if the other nodes are counted, too; None: this node counts alone.
    is_reachable: bool | None

    def open(self) -> None:
        """Begin to answer."""
        ...

    def close(self) -> None:
        """End; what is not counted yet is not counted any more."""
        ...

    def take(self, holder: Hashable, message: Claiming, answer: Answer) -> None:
        """Count ``message``. A ``Reserve`` is answered with ``answer``, on any thread."""
        ...

    def replace(self, api: ApiConfig, keys: Collection[str]) -> None:
        """Apply the limits of ``api`` from now on. ``keys`` are the ids of all keys."""
        ...

    def forget(self, holder: Hashable) -> None:
        """Drop the reservations of a dead holder: their tokens count as used."""
        ...


class OwnLimits:
    """A ledger in this process: each node counts for itself."""

    is_reachable: bool | None = None

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self.replace = ledger.replace
        self.forget = ledger.forget

    def open(self) -> None:
        """A ledger needs nothing."""

    def close(self) -> None:
        """A ledger holds nothing."""

    def take(self, holder: Hashable, message: Claiming, answer: Answer) -> None:
        match message:
            case Reserve(ticket, key, model, tokens, expected):
                answer(self._ledger.reserve(holder, ticket, key, model, tokens, expected))
            case Used(ticket, tokens):
                self._ledger.use(holder, ticket, tokens)
            case Settle(ticket, tokens):
                self._ledger.settle(holder, ticket, tokens)
