"""What requests cost: against the rate limits, and in the usage of the keys."""

from mlxnode.config.file import LoadedConfig
from mlxnode.config.tables import NodeConfig
from mlxnode.messages.control import Booking, Reserve, Settle, Usage, Used
from mlxnode.process.child import Child
from mlxnode.process.ledger import Ledger
from mlxnode.process.traffic import Traffic
from mlxnode.process.usage_keeper import UsageKeeper


class Accounts:
    """Takes what workers report; nothing here waits for a disk."""

    def __init__(self, config: NodeConfig):
        self.ledger = Ledger(config.api)
        self.traffic = Traffic()
        self._usage = UsageKeeper(config.server)

    def open(self) -> None:
        """Keep usage from now on."""
        self._usage.open()

    def close(self) -> None:
        """Write the usage that is not written yet."""
        self._usage.close()

    def take(self, worker: Child, message: Booking) -> None:
        """Book ``message``; the worker gets the answer to a ``Reserve``."""
        holder = _holder(worker)
        match message:
            case Reserve(ticket, key, model, tokens, expected):
                answer = self.ledger.reserve(holder, ticket, key, model, tokens, expected)
                worker.send(answer)
            case Used(ticket, tokens):
                self.ledger.use(holder, ticket, tokens)
            case Settle(ticket, tokens):
                self.ledger.settle(holder, ticket, tokens)
            case Usage():
                self._usage.add(message)
                self.traffic.add(message)

    def replace(self, loaded: LoadedConfig) -> None:
        """Use the limits of another configuration."""
        self.ledger.replace(loaded.config.api, {key.id for key in loaded.api_keys})

    def forget(self, worker: Child) -> None:
        """Drop the reservations of a worker that has died."""
        self.ledger.forget(_holder(worker))


def _holder(worker: Child) -> tuple[str, int]:
    """The name under which the incarnation of a worker holds reservations in the ledger."""
    return worker.name, worker.incarnation
