"""The cached prefixes of a simulated node: which tokens of a prompt it need not compute.

As in ``mlxnode/engine/kvcache/prefix.py``: each finished sequence is an entry, the least
recently used one is evicted first, and the part that others share (the system prompt) stays.
"""

from collections import Counter, OrderedDict
from typing import NamedTuple

from scaling.requests import Request

MAX_ENTRIES = 256  # tests/benchmarks compares this, and the next one, with the engine's
MIN_SHARED = 16  # tokens


class Entry(NamedTuple):
    """A finished sequence, or a system prompt alone. Lengths in tokens."""

    conversation: str  # empty: a system prompt alone
    system: str
    system_tokens: int
    shared: int  # with the next turn of the conversation
    size: int


class Prefixes:
    """The entries of one node, within ``limit`` tokens."""

    def __init__(self, limit: float):
        self._limit = limit
        self._entries: OrderedDict[tuple[str, int], Entry] = OrderedDict()
        self._turns: dict[str, list[int]] = {}  # of each conversation that has entries
        self._systems: Counter[str] = Counter()  # entries and running prompts that start so
        self.size = 0

    def find(self, request: Request) -> int:
        """The tokens of the prompt that are cached; the last one is always computed."""
        found = 0
        turns = self._turns.get(request.conversation)
        if turns:
            key = (request.conversation, max(turns))
            found = self._entries[key].shared
            self._entries.move_to_end(key)
        if self._systems[request.system] and request.system_tokens > found:
            found = request.system_tokens
            if (alone := _alone(request.system)) in self._entries:
                self._entries.move_to_end(alone)
        return min(found, request.context - 1)

    def start(self, request: Request) -> None:
        """The prompt of a running request is complete: others can start with its prefix."""
        self._systems[request.system] += 1

    def finish(self, request: Request, room: float) -> None:
        """Keep prompt and answer of a row that ends, within ``room`` tokens as well."""
        self._systems[request.system] -= 1
        size = request.prompt + request.num_generated
        shared = request.prompt + int(request.answer_reuse * request.num_generated)
        if size > min(self._limit, room):
            return
        if request.answer_reuse >= 1:  # it contains the turns before
            for turn in list(self._turns.get(request.conversation, ())):
                self._remove((request.conversation, turn))
        entry = Entry(request.conversation, request.system, request.system_tokens, shared, size)
        self._add((request.conversation, request.turn), entry)
        self.shrink(room)

    def shrink(self, room: float) -> None:
        """Evict until the entries fit the limits and ``room`` tokens."""
        limit = min(self._limit, room)
        while self._entries and (self.size > limit or len(self._entries) > MAX_ENTRIES):
            key, entry = next(iter(self._entries.items()))
            self._remove(key)
            alone = _alone(entry.system)
            if (
                entry.conversation
                and entry.system_tokens >= MIN_SHARED
                and alone not in self._entries
            ):
                size = entry.system_tokens
                self._add(alone, Entry("", entry.system, size, size, size))

    def _add(self, key: tuple[str, int], entry: Entry) -> None:
        if key in self._entries:
            self._remove(key)
        self._entries[key] = entry
        self._systems[entry.system] += 1
        self.size += entry.size
        if entry.conversation:
            self._turns.setdefault(entry.conversation, []).append(key[1])

    def _remove(self, key: tuple[str, int]) -> None:
        entry = self._entries.pop(key)
        self._systems[entry.system] -= 1
        self.size -= entry.size
        if entry.conversation:
            turns = self._turns[entry.conversation]
            turns.remove(key[1])
            if not turns:
                del self._turns[entry.conversation]


def _alone(system: str) -> tuple[str, int]:
    """The key of the entry of a system prompt alone; turns count from 0."""
    return system, -1
