"""The requests that wait until their model is loaded, in the order of their arrival."""

from collections import Counter
from collections.abc import Iterator

from mlxnode.engine.work import RequestKey
from mlxnode.messages.data import Embed, Generate

Work = Generate | Embed


class WaitingForModel:
    """The waiting requests of one model, and how many each API key has."""

    def __init__(self) -> None:
        self._requests: dict[RequestKey, Work] = {}
        self._per_key: Counter[tuple[bool, str]] = Counter()  # in the background, and the key
        self._num_in: Counter[bool] = Counter()  # in the foreground, in the background

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[RequestKey]:
        return iter(self._requests)

    @property
    def num_background(self) -> int:
        """Those of them that are in the background."""
        return self._num_in[True]

    def is_full_for(self, key: str, size: int, *, is_background: bool = False) -> bool:
        """True if ``key`` has its share of ``size`` places.

        Who waits with less than an even share finds a place beyond the size. The background
        has places of its own.
        """
        side, line = is_background, (is_background, key)
        num_keys = sum(each[0] == side for each in self._per_key) + (line not in self._per_key)
        return self._num_in[side] >= size and self._per_key[line] >= size // num_keys

    def add(self, key: RequestKey, message: Work) -> None:
        """One more request waits."""
        self._requests[key] = message
        self._per_key[message.background, message.key] += 1
        self._num_in[message.background] += 1

    def remove(self, key: RequestKey) -> bool:
        """The request waits no more; False if it did not wait."""
        message = self._requests.pop(key, None)
        if message is None:
            return False
        self._per_key[message.background, message.key] -= 1
        self._num_in[message.background] -= 1
        self._per_key += Counter()  # keys without requests are forgotten
        return True

    def take_all(self) -> dict[RequestKey, Work]:
        """The requests; none waits any more."""
        taken, self._requests = self._requests, {}
        self._per_key.clear()
        self._num_in.clear()
        return taken
