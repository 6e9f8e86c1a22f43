"""The requests that were in a step when an engine died, and which of them to blame."""

from collections.abc import Collection
from dataclasses import dataclass

from mlxnode.messages.control import Suspects

FORGET_AFTER = 3600.0  # seconds after its last death, a request is suspected no more
MAX_SUSPECTS = 4096


@dataclass
class _Suspect:
    num_deaths: int
    last_death: float  # on the monotonic clock


class SuspectList:
    """Counts the deaths that each request was part of, by fingerprint.

    A batch has many requests, and one of them is to blame. Clients retry all of them, so some
    are part of several deaths. The blamed are those with the most deaths. A request that is
    blamed alone for its second death is refused. Of several, a part of half the size, then of
    a quarter, and so on, runs at the same time: each death tells which part has the culprit,
    until one is blamed alone. A request that ends well is cleared.
    """

    def __init__(self) -> None:
        self._suspects: dict[bytes, _Suspect] = {}
        self._refused: set[bytes] = set()
        self._quarantined: set[bytes] = set()
        self._limit = 1

    @property
    def message(self) -> Suspects:
        """What the engine has to know."""
        return Suspects(
            list(self._refused),
            list(self._quarantined),
            self._limit,
            [each for each in self._suspects if each not in self._refused],
        )

    def note_death(self, fingerprints: Collection[bytes], now: float) -> bool:
        """Count a death in a step of these requests; True if one is refused from now on."""
        self._forget_old(now)
        fingerprints = set(fingerprints)
        for fingerprint in fingerprints:
            earlier = self._suspects.pop(fingerprint, None)  # the youngest are at the end
            num_deaths = 1 + (earlier.num_deaths if earlier else 0)
            self._suspects[fingerprint] = _Suspect(num_deaths, now)
        while len(self._suspects) > MAX_SUSPECTS:
            self.clear(next(iter(self._suspects)))
        most = max((self._suspects[each].num_deaths for each in fingerprints), default=0)
        if most < 2:
            return False
        blamed = {each for each in fingerprints if self._suspects[each].num_deaths == most}
        if len(blamed) == 1:
            self._refused |= blamed
            self._quarantined -= blamed
            return True
        self._quarantined |= blamed
        self._limit = max(1, len(blamed) >> (most - 1))
        return False

    def clear(self, fingerprint: bytes) -> None:
        """A suspected request has ended well, or is forgotten."""
        self._suspects.pop(fingerprint, None)
        self._refused.discard(fingerprint)
        self._quarantined.discard(fingerprint)

    def _forget_old(self, now: float) -> None:
        for fingerprint, suspect in list(self._suspects.items()):
            if now - suspect.last_death > FORGET_AFTER:
                self.clear(fingerprint)
