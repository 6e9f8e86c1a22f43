"""Which requests may end the engine: those that run now, that have to wait, or are refused."""

import hashlib
from collections import deque
from collections.abc import Iterable

import msgspec

from mlxnode.engine.work import RequestKey
from mlxnode.messages.control import Suspects
from mlxnode.messages.data import Embed, Failed, Generate
from mlxnode.process.step_record import FINGERPRINT_BYTES, StepRecord

MAX_HELD = 512  # requests in quarantine that wait for others
_HELD = "too many requests wait that were in a step when the engine failed"
_POISONOUS = (
    "The engine failed each time it worked on this request. It is not tried again for an hour "
    "after the last time"
)

# Who sends a request, and how urgent it is, changes nothing in what it does to the engine.
_SENDER = {"uid": 0, "key": "", "weight": 1.0, "priority": 0, "call": 0, "background": False}


def fingerprint_of(message: Generate | Embed) -> bytes:
    """A digest of all that decides what the engine computes; equal for a client's retries."""
    sender = {name: value for name, value in _SENDER.items() if hasattr(message, name)}
    data = msgspec.msgpack.encode(msgspec.structs.replace(message, **sender))
    return hashlib.blake2b(data, digest_size=FINGERPRINT_BYTES).digest()


class _Quarantine:
    """The quarantined requests of one lane: those that run, and those that wait for them."""

    def __init__(self) -> None:
        self.running: set[RequestKey] = set()
        self.held: deque[tuple[RequestKey, Generate | Embed]] = deque()

    def hold(self, key: RequestKey, message: Generate | Embed, limit: int) -> bool:
        """True if the request waits, because ``limit`` others run."""
        if is_full := len(self.running) >= limit:
            self.held.append((key, message))
        else:
            self.running.add(key)
        return is_full

    def release(self, limit: int) -> tuple[RequestKey, Generate | Embed] | None:
        """A request whose turn it is; it runs from now on."""
        if not self.held or len(self.running) >= limit:
            return None
        self.running.add(self.held[0][0])
        return self.held.popleft()

    def forget(self, key: RequestKey) -> None:
        """The request has ended."""
        self.running.discard(key)
        if any(key == held for held, _ in self.held):
            self.held = deque(each for each in self.held if each[0] != key)


class Suspicion:
    """The fingerprints of the requests in this engine.

    ``note`` writes those of the current step to ``record``, from which the supervisor learns
    what the engine died of. Quarantined requests wait here until few enough others run: no step
    has more of them. No step has requests of both lanes, so a request in the foreground does
    not wait for one in the background, which stands still.
    """

    def __init__(self, record: StepRecord | None):
        self._record = record
        self._suspects = Suspects([], [], 1, [])
        self._refused: frozenset[bytes] = frozenset()
        self._quarantined: frozenset[bytes] = frozenset()
        self._watched: frozenset[bytes] = frozenset()
        self._fingerprints: dict[RequestKey, bytes] = {}
        self._lanes = {False: _Quarantine(), True: _Quarantine()}  # by ``Work.background``
        self._noted: list[RequestKey] = []

    def learn(self, suspects: Suspects) -> None:
        """Take what the supervisor knows."""
        self._suspects = suspects
        self._refused = frozenset(suspects.refused)
        self._quarantined = frozenset(suspects.quarantined)
        self._watched = frozenset(suspects.watched)

    def add(self, key: RequestKey, message: Generate | Embed) -> bool:
        """Take a request; False if it is not to be run."""
        fingerprint = fingerprint_of(message)
        if fingerprint not in self._refused:
            self._fingerprints[key] = fingerprint
        return fingerprint not in self._refused

    def refusal(self, key: RequestKey, message: Generate | Embed) -> Failed | None:
        """Take a request, or return why it is not run."""
        if not self.add(key, message):
            return Failed(key.uid, "poisonous", _POISONOUS)
        if len(self._lanes[message.background].held) < MAX_HELD:
            return None
        self.forget(key)
        return Failed(key.uid, "overloaded", _HELD)

    def hold(self, key: RequestKey, message: Generate | Embed) -> bool:
        """True if the request has to wait for others that are in quarantine, and does so."""
        if self._fingerprints[key] not in self._quarantined:
            return False
        return self._lanes[message.background].hold(key, message, self._suspects.limit)

    def release(self) -> tuple[RequestKey, Generate | Embed] | None:
        """A held request that can run now."""
        released = (lane.release(self._suspects.limit) for lane in self._lanes.values())
        return next((each for each in released if each is not None), None)

    def forget(self, key: RequestKey) -> bytes | None:
        """A request has ended in any way; returns its fingerprint if it is watched."""
        for lane in self._lanes.values():
            lane.forget(key)
        fingerprint = self._fingerprints.pop(key, None)
        return fingerprint if fingerprint in self._watched else None

    def note(self, keys: Iterable[RequestKey]) -> None:
        """The engine works on these requests from now on."""
        keys = list(keys)
        if keys == self._noted:
            return
        self._noted = keys
        if self._record is not None:
            self._record.write(self.noted)

    @property
    def noted(self) -> list[bytes]:
        """The fingerprints of the requests that the engine works on."""
        return [self._fingerprints[key] for key in self._noted if key in self._fingerprints]
