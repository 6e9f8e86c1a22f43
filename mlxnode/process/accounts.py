"""What requests cost: against the rate limits, and in the usage of the keys."""

from mlxnode.config.file import LoadedConfig
from mlxnode.config.several import SharedLimitsConfig
from mlxnode.config.tables import ApiConfig, NodeConfig
from mlxnode.messages.control import Booking, Usage
from mlxnode.process.child import Child
from mlxnode.process.ledger import Ledger
from mlxnode.process.limit_store import LimitStore, OwnLimits
from mlxnode.process.traffic import Traffic
from mlxnode.process.usage_keeper import UsageKeeper


class Accounts:
    """Takes what workers report; nothing here waits for a disk or a network."""

    def __init__(self, config: NodeConfig, shared: SharedLimitsConfig | None = None):
        """``shared`` has the address of Redis; ``config`` is without secrets."""
        self.limits = _limits_of(config.api, shared)
        self.traffic = Traffic()
        self._usage = UsageKeeper(config.server)

    def open(self) -> None:
        """Keep usage and count from now on."""
        self._usage.open()
        self.limits.open()

    def close(self) -> None:
        """Write the usage that is not written yet."""
        self.limits.close()
        self._usage.close()

    def take(self, worker: Child, message: Booking) -> None:
        """Book ``message``; the worker gets the answer to a ``Reserve``."""
        if isinstance(message, Usage):
            self._usage.add(message)
            self.traffic.add(message)
        else:
            self.limits.take(_holder(worker), message, worker.sender())

    def replace(self, loaded: LoadedConfig) -> None:
        """Use the limits of another configuration."""
        self.limits.replace(loaded.config.api, {key.id for key in loaded.api_keys})

    def forget(self, worker: Child) -> None:
        """Drop the reservations of a worker that has died."""
        self.limits.forget(_holder(worker))


def _holder(worker: Child) -> tuple[str, int]:
    """The name under which the incarnation of a worker holds reservations in the ledger."""
    return worker.name, worker.incarnation


def _limits_of(api: ApiConfig, shared: SharedLimitsConfig | None) -> LimitStore:
    if shared is None or shared.redis is None:
        return OwnLimits(Ledger(api))
    # Imported here: a node that counts alone does without them.
    from mlxnode.process.redis_buckets import RedisBuckets
    from mlxnode.process.shared_limits import SharedLimits

    url = shared.redis.get_secret_value()
    return SharedLimits(api, shared, RedisBuckets(url, shared.prefix))
