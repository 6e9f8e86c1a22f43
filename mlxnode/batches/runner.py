"""Runs the batches: checks their files, keeps lines in flight, ends what is over.

The disk decides: a line is done if its result is there, and lines in flight leave no trace. So
the process can end at any moment, and the next one goes on.
"""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator

from mlxnode.batches.job import Job, Limits, unanswered
from mlxnode.batches.reading import Line, request_at
from mlxnode.batches.rows import EndStatus, Problem, StoredBatch
from mlxnode.batches.sending import LineSender
from mlxnode.batches.store import BatchStore
from mlxnode.batches.turns import Turns
from mlxnode.batches.writing import MAX_WAITING, ResultWriter

log = logging.getLogger("mlxnode.batches")

LOOK_INTERVAL = 1.0  # seconds between two looks at the batches, if nobody wakes the runner
IDLE_SECONDS = 5.0  # without a batch, until the runner says that it has no work
RETRY_PAUSE = 5.0  # seconds, after a fault of the disk
CLEAN_INTERVAL = 3600.0  # seconds between two removals of files whose time is over
MAX_BYTES = 64 * 1024 * 1024  # of lines in flight

_WHY: dict[EndStatus, str] = {
    "expired": "This request could not be executed before the completion window expired.",
    "cancelled": "This request was not executed, because the batch was cancelled.",
}


class Runner:
    """All methods run on one event loop."""

    def __init__(
        self,
        store: BatchStore,
        sender: LineSender,
        limits: Limits,
        max_in_flight: int,
        on_busy: Callable[[bool], object] = lambda busy: None,
    ):
        """``on_busy`` is called with False when there is no work, and True when there is."""
        self._store = store
        self._sender = sender
        self._limits = limits
        self._max_in_flight = max_in_flight
        self._on_busy = on_busy
        self._jobs: dict[str, Job] = {}
        self._turns = Turns()
        self._woken = asyncio.Event()
        self._writer = ResultWriter(store, self._on_written)
        self._checking: asyncio.Task[None] | None = None  # of the input file of
        self._checked_id = ""
        self._is_ending = False
        self._try_again_at: dict[str, float] = {}  # a batch, on the monotonic clock
        self._missing: set[str] = set()  # the batches whose input file is gone
        self._bytes_in_flight = 0
        self._is_busy = True
        self._busy_at = time.monotonic()
        self._cleaned_at = -CLEAN_INTERVAL

    def wake(self) -> None:
        """Look at the batches now."""
        self._busy_at = time.monotonic()
        self._say_busy(True)
        self._woken.set()

    async def run(self) -> None:
        """Run until it is cancelled; the lines in flight are aborted then."""
        writing = asyncio.create_task(self._writer.run())
        try:
            while True:
                self._woken.clear()
                try:
                    await self._look()
                except (OSError, sqlite3.Error) as error:
                    log.warning("the batches cannot be read: %s", error)
                # Not wait_for: if it is woken when it is cancelled, it loses the cancel.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_INTERVAL):
                        await self._woken.wait()
        finally:
            self._is_ending = True
            for id in list(self._jobs):
                await self._drop(id)
            with contextlib.suppress(TimeoutError):  # what has come is written
                async with asyncio.timeout(1.0):
                    await self._writer.idle()
            writing.cancel()

    async def _look(self) -> None:
        now = time.monotonic()
        if now - self._cleaned_at >= CLEAN_INTERVAL:
            self._cleaned_at = now
            await asyncio.to_thread(self._store.clean)
        batches = await asyncio.to_thread(self._store.open_batches)
        for id in self._jobs.keys() - {batch.id for batch in batches}:
            await self._drop(id)
        if batches:
            self._busy_at = now
        elif now - self._busy_at >= IDLE_SECONDS:
            self._say_busy(False)
        batches = [batch for batch in batches if self._try_again_at.get(batch.id, 0.0) <= now]
        going_on = []
        for batch in batches:
            if (status := self._end_of(batch)) is None:
                going_on.append(batch)
            else:
                with self._trying(batch):
                    await self._end(batch, status)
        await self._activate([batch for batch in going_on if batch.status == "in_progress"])
        unchecked = [batch for batch in going_on if batch.status == "validating"]
        if unchecked and self._checking is None:
            self._checked_id = unchecked[0].id
            self._checking = asyncio.create_task(self._check(unchecked[0]))
        self._fill()

    @contextlib.contextmanager
    def _trying(self, batch: StoredBatch) -> Iterator[None]:
        """If the disk fails, try again with this batch later: the others go on."""
        try:
            yield
            self._try_again_at.pop(batch.id, None)
        except (OSError, sqlite3.Error) as error:
            self._try_again_at[batch.id] = time.monotonic() + RETRY_PAUSE
            log.warning("%s has to wait: %s", batch.id, error)

    def _say_busy(self, is_busy: bool) -> None:
        if is_busy != self._is_busy:
            self._is_busy = is_busy
            self._on_busy(is_busy)

    def _on_written(self) -> None:
        if any(job.is_done for job in self._jobs.values()):
            self._woken.set()
        self._fill()

    # --- the life of a batch --------------------------------------------------------

    async def _check(self, batch: StoredBatch) -> None:
        """Read the input file of a new batch."""
        try:
            found = await asyncio.to_thread(self._limits.read, batch, self._store)
            if found.problems:
                await asyncio.to_thread(self._store.fail, batch.id, found.problems)
                log.info("%s: its file is refused: %s", batch.id, found.problems[0].message)
            else:
                models = {line.model for line in found.lines}
                model = models.pop() if len(models) == 1 else None
                total = len(found.lines)
                await asyncio.to_thread(self._store.begin, batch.id, total=total, model=model)
                log.info("%s: %d requests", batch.id, len(found.lines))
        except FileNotFoundError:
            problem = Problem("input_file_unavailable", "The input file is gone.")
            await asyncio.to_thread(self._store.fail, batch.id, [problem])
        except Exception:  # a fault of this program: the other batches go on
            self._try_again_at[batch.id] = time.monotonic() + RETRY_PAUSE
            log.exception("%s cannot be checked", batch.id)
        finally:
            self._checking = None
            self._woken.set()

    def _tell_missing(self, batch: StoredBatch) -> None:
        """Somebody has removed the input file; the batch waits for it until it expires."""
        if batch.id not in self._missing:
            self._missing.add(batch.id)
            log.warning("%s: its file %s is gone", batch.id, batch.input_file_id)

    async def _load(self, batch: StoredBatch) -> Job | None:
        """The job of the batch; None: its file is gone. Raises OSError, sqlite3.Error."""
        try:
            found = await asyncio.to_thread(self._limits.read, batch, self._store)
            return await asyncio.to_thread(Job.load, batch, self._store, found)
        except FileNotFoundError:
            self._tell_missing(batch)
            return None

    async def _activate(self, batches: list[StoredBatch]) -> None:
        """Load the oldest batch of each key none of whose lines waits."""
        provided = {job.batch.owner for job in self._jobs.values() if not job.pending.is_empty}
        for batch in batches:
            if batch.id in self._jobs or batch.owner in provided:
                continue
            job = None
            with self._trying(batch):
                job = await self._load(batch)
            if job is None:
                continue
            self._jobs[batch.id] = job
            if job.is_done:
                self._woken.set()  # it had only to be ended
            else:
                provided.add(batch.owner)

    def _end_of(self, batch: StoredBatch) -> EndStatus | None:
        """How the batch has to end now; None: it goes on."""
        if self._checking is not None and batch.id == self._checked_id:
            return None
        if batch.status == "cancelling":
            return "cancelled"
        if batch.expired_at is not None:  # its end has begun
            return "expired"
        job = self._jobs.get(batch.id)
        is_done = job is not None and job.is_done and not self._writer.has_waiting(batch.id)
        is_done = is_done or batch.num_left == 0
        if is_done or batch.status == "finalizing":
            return "completed"
        return "expired" if batch.expires_at <= time.time() else None

    async def _end(self, batch: StoredBatch, status: EndStatus) -> None:
        await self._drop(batch.id)
        await self._writer.idle()
        if status == "expired":
            await asyncio.to_thread(self._store.expire, batch.id)
        if status != "completed" and batch.total:
            why = f"batch_{status}", _WHY[status]
            left = []
            try:
                left = await asyncio.to_thread(
                    unanswered, batch, self._store, self._limits, *why
                )
            except OSError as error:  # it ends all the same
                log.warning("%s: its file cannot be read: %s", batch.id, error)
            await asyncio.to_thread(self._store.append, batch.id, left)
        if status == "completed":
            await asyncio.to_thread(self._store.finalize, batch.id)
        await asyncio.to_thread(self._store.finish, batch.id, status)
        log.info("%s: %s", batch.id, status)

    async def _drop(self, id: str) -> None:
        job = self._jobs.pop(id, None)
        if job is not None:
            await job.stop()
            job.close()

    # --- lines ----------------------------------------------------------------------

    def _fill(self) -> None:
        """Begin as many lines as there is room for."""
        if self._is_ending:
            return
        jobs = {id(job.pending): job for job in self._jobs.values()}
        num_running = sum(len(job.running) for job in jobs.values())
        now = time.monotonic()
        while num_running < self._max_in_flight and self._writer.num_waiting < MAX_WAITING:
            chosen = self._turns.next([job.pending for job in jobs.values()], now)
            if chosen is None:
                return
            pending, model = chosen
            size = pending.peek(model).size
            if self._bytes_in_flight and self._bytes_in_flight + size > MAX_BYTES:
                return
            line = pending.take(model)
            self._turns.note(pending.key)
            self._bytes_in_flight += size
            num_running += 1
            job = jobs[id(pending)]
            job.running[line] = asyncio.create_task(self._run(job, line))

    async def _run(self, job: Job, line: Line) -> None:
        """Bring one line to its result, unless it is cancelled."""
        batch = job.batch
        try:
            request = request_at(job.file, line, batch.endpoint)
            outcome = await self._sender.answer(request, batch.endpoint, batch.owner)
            self._writer.add(batch.id, outcome.of(line.number))
        except Exception:  # a fault of this program: the line is tried again later
            log.exception("%s: line %d", batch.id, line.number)
            await asyncio.sleep(LOOK_INTERVAL)
            job.pending.put_back(line)
        finally:
            self._bytes_in_flight -= line.size
            job.running.pop(line, None)
            if job.pending.is_empty:
                self._woken.set()  # the key has another batch, perhaps
            self._fill()
