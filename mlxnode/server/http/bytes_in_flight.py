"""How many bytes of request bodies a worker holds at once, in all and of each address."""

import asyncio
from collections import Counter, OrderedDict, deque


class Share:
    """The bytes that one body holds."""

    def __init__(self, budget: "BytesInFlight", address: str, size: int):
        self.address = address
        self.size = size
        self._budget = budget
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def shrink(self, size: int) -> None:
        """Hold no more than ``size`` bytes."""
        surplus = self.size - size
        if surplus > 0:
            self.size = size
            self._budget.give_back(self.address, surplus)

    def release(self) -> None:
        """Hold nothing. It can be called again."""
        self.shrink(0)


class BytesInFlight:
    """A budget of bytes. One address gets three quarters, or one body of the largest size.

    A body waits before it is read: the client's system then holds what the client sends.
    Addresses are served in turn, and the bodies of an address in their order. A body that has
    its turn is not passed by others, so that the largest one gets its bytes as well.
    """

    def __init__(self, total: int, largest: int):
        self._free = total
        self._limit = max(total // 4 * 3, largest)
        self._held: Counter[str] = Counter()  # by address
        self._queues: dict[str, deque[Share]] = {}  # by address
        # The addresses whose turn can come. Those that hold their part are not among them.
        self._turns: OrderedDict[str, None] = OrderedDict()

    @property
    def num_held(self) -> int:
        return self._held.total()

    async def take(self, address: str, size: int) -> Share:
        """Hold ``size`` bytes for a body from ``address``, as soon as there is room."""
        share = Share(self, address, size)
        self._queues.setdefault(address, deque()).append(share)
        self._turns.setdefault(address)
        self._grant()
        try:
            await share.granted
        except asyncio.CancelledError:
            if not share.granted.cancelled():  # the client left in the moment of its turn
                share.release()
            self._grant()
            raise
        return share

    def give_back(self, address: str, size: int) -> None:
        """Bytes that ``address`` holds are free again."""
        self._free += size
        self._held[address] -= size
        if self._held[address] <= 0:
            del self._held[address]
        if address in self._queues:
            self._turns.setdefault(address)
        self._grant()

    def _grant(self) -> None:
        """Serve what waits, as far as there is room."""
        while self._turns:
            address = next(iter(self._turns))
            queue = self._queues[address]
            while queue and queue[0].granted.cancelled():
                queue.popleft()
            if not queue:
                del self._queues[address], self._turns[address]
                continue
            share = queue[0]
            if share.size > self._free:
                return
            self._turns.popitem(last=False)
            if self._held[address] + share.size > self._limit:
                continue
            queue.popleft()
            self._turns[address] = None  # behind the others
            self._free -= share.size
            self._held[address] += share.size
            share.granted.set_result(None)
