"""Files, batches and results as the store keeps them, and why it refuses."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

BatchStatus = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
# A batch with one of these has not ended: the process that runs batches has work to do.
OPEN: tuple[BatchStatus, ...] = ("validating", "in_progress", "finalizing", "cancelling")
EndStatus = Literal["completed", "expired", "cancelled"]


class StoreError(Exception):
    """Base of what the store refuses.

    ::

        StoreError
        ├── QuotaExceeded  the files of the key have as many bytes as they may have
        ├── FileTooLarge   one file has more bytes than it may have
        ├── FileInUse      the file is the input of a batch that has not ended
        ├── TooManyOpen    the key has as many open batches as it may have
        └── HasEnded       the batch has ended: it cannot be cancelled
    """


class QuotaExceeded(StoreError):
    def __init__(self, used: int, limit: int):
        super().__init__(f"{used} of {limit} bytes are in use")
        self.used, self.limit = used, limit


class FileTooLarge(StoreError):
    def __init__(self, limit: int):
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class FileInUse(StoreError):
    def __init__(self, batch_id: str):
        super().__init__(f"it is the input of {batch_id}")
        self.batch_id = batch_id


class TooManyOpen(StoreError):
    def __init__(self, limit: int):
        super().__init__(f"{limit} batches are open")
        self.limit = limit


class HasEnded(StoreError):
    def __init__(self, status: BatchStatus):
        super().__init__(f"it is {status}")
        self.status: BatchStatus = status


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file. Times are Unix seconds; ``owner`` is the id of a key."""

    number: int  # grows with each file: the order of lists
    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int | None


class Problem(NamedTuple):
    """Why an input file is refused. ``line`` is counted from 1; None: it is the whole file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Tokens(NamedTuple):
    """Tokens that were used; the cached ones are a part of the prompt's."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0


class Result(NamedTuple):
    """The result of one line: ``data`` is a line of the output file, or of the error file.

    ``line`` is the number of the line in the input file; ``data`` has no end of line.
    """

    line: int
    data: bytes
    has_failed: bool
    tokens: Sequence[int] = Tokens()


class StoredBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch. Times are Unix seconds; None: not yet, or never.

    ``total``, ``completed`` and ``failed`` count lines. ``output_seconds`` is the time after
    which the files of results expire, if the client has set one.
    """

    number: int  # grows with each batch: the order of lists
    id: str
    owner: str
    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None
    status: BatchStatus
    created_at: int
    expires_at: int
    output_seconds: int | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    errors: list[Problem] = []
    output_file_id: str | None = None
    error_file_id: str | None = None
    model: str | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def num_left(self) -> int | None:
        """The lines without a result; None before they were counted."""
        return self.total - self.completed - self.failed if self.total else None

    @property
    def is_open(self) -> bool:
        """True if the batch has not ended."""
        return self.status in OPEN
