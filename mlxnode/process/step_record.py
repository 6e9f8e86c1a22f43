"""What the engine works on in its current step, where it outlives the engine."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Sequence
from multiprocessing.reduction import DupFd
from typing import Any

log = logging.getLogger("mlxnode.supervisor")

FINGERPRINT_BYTES = 16
MAX_FINGERPRINTS = 1024  # of one step; more are not recorded
_COUNT_BYTES = 2
_SIZE = _COUNT_BYTES + MAX_FINGERPRINTS * FINGERPRINT_BYTES


class StepRecord:
    """The fingerprints of the requests of one step, written by the engine before the step.

    It is a file without a name that the supervisor opens and each engine inherits. A dying
    engine cannot send anything, and a message in a queue of it is lost; what is written to a
    file stays. A write takes about a microsecond, and waits for nobody.
    """

    def __init__(self) -> None:
        self._fd: int | None = None  # None: nothing is recorded

    def open(self) -> None:
        """Open the file. Where there is none to be had, nothing is recorded."""
        try:
            self._fd = _open_nameless()
            os.pwrite(self._fd, bytes(_SIZE), 0)  # so that a full disk is noticed now
        except OSError as error:
            log.info("the requests of a step are not recorded: %s", error.strerror)
            self.close()

    def close(self) -> None:
        """Close the file, which then is gone."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def write(self, fingerprints: Sequence[bytes]) -> None:
        """Replace the record."""
        if self._fd is None:
            return
        kept = fingerprints[:MAX_FINGERPRINTS]
        count = len(kept).to_bytes(_COUNT_BYTES, "little")
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, count + b"".join(kept), 0)

    def read(self) -> list[bytes]:
        """The fingerprints that were written last."""
        if self._fd is None:
            return []
        data = os.pread(self._fd, _SIZE, 0)
        count, size = int.from_bytes(data[:_COUNT_BYTES], "little"), FINGERPRINT_BYTES
        starts = range(_COUNT_BYTES, _COUNT_BYTES + count * size, size)
        return [data[start : start + size] for start in starts]

    def __reduce__(self) -> tuple[Any, ...]:
        """A child process that is being started inherits the file."""
        return _restore, (None if self._fd is None else DupFd(self._fd),)


def _restore(inherited: Any) -> StepRecord:
    record = StepRecord()
    record._fd = None if inherited is None else inherited.detach()
    return record


def _open_nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("mlxnode-step")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
