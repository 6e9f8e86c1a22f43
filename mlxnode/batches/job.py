"""A batch that is being run: the lines that wait, and those in flight."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import BinaryIO

from mlxnode.batches.reading import Input, Line, read_input, request_at
from mlxnode.batches.rows import Result, StoredBatch
from mlxnode.batches.sending import error_line
from mlxnode.batches.store import BatchStore
from mlxnode.batches.turns import Pending


@dataclass
class Job:
    """``pending`` and ``running`` together are the lines without a result."""

    batch: StoredBatch
    file: BinaryIO
    pending: Pending
    running: dict[Line, asyncio.Task[None]] = field(default_factory=dict)

    @classmethod
    def load(cls, batch: StoredBatch, store: BatchStore, found: Input) -> "Job":
        """The job of a batch whose lines were ``found``; those with results are left out.

        Raises:
            OSError: the input file is not there.
        """
        done = store.done_lines(batch.id)
        left = [line for line in found.lines if line.number not in done]
        file = store.files.path(batch.input_file_id).open("rb")
        return cls(batch, file, Pending.of(batch.owner, batch.number, left))

    @property
    def is_done(self) -> bool:
        """True if each line has an answer."""
        return self.pending.is_empty and not self.running

    async def stop(self) -> None:
        """Abort the lines in flight; they have no result."""
        tasks = list(self.running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()


class Limits:
    """How much a batch and a line may hold."""

    def __init__(self, max_lines: int, max_body_bytes: int):
        self.max_lines = max_lines
        self.max_body_bytes = max_body_bytes

    def read(self, batch: StoredBatch, store: BatchStore) -> Input:
        """Check the input file of ``batch``. Raises OSError if it cannot be read."""
        return read_input(
            store.files.path(batch.input_file_id),
            batch.endpoint,
            max_lines=self.max_lines,
            max_body_bytes=self.max_body_bytes,
        )


def unanswered(
    batch: StoredBatch, store: BatchStore, limits: Limits, code: str, message: str
) -> list[Result]:
    """The error lines for all lines of ``batch`` without a result.

    Raises:
        OSError: the input file is not there.
    """
    done = store.done_lines(batch.id)
    left = [line for line in limits.read(batch, store).lines if line.number not in done]
    with store.files.path(batch.input_file_id).open("rb") as file:
        ids = [request_at(file, line, batch.endpoint).custom_id for line in left]
    return [
        error_line(custom_id, code, message).of(line.number)
        for custom_id, line in zip(ids, left, strict=True)
    ]
