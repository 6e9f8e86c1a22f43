"""The store of files and batches for the routes: in threads, with the errors of the API."""

import asyncio
import errno
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from sanic import Request

from mlxnode.batches.rows import (
    FileInUse,
    FileTooLarge,
    HasEnded,
    QuotaExceeded,
    StoreError,
    TooManyOpen,
)
from mlxnode.batches.store import BatchStore
from mlxnode.server.errors import (
    ApiError,
    InvalidRequest,
    NotFound,
    StorageFull,
    TooLarge,
    Unavailable,
)
from mlxnode.server.http.context import context_of
from mlxnode.server.seldom import SeldomLog

_log = SeldomLog(logging.getLogger("mlxnode.server"))
_NUM_THREADS = 4  # a slow disk holds up files and batches alone
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLEAN_AFTER = 60.0  # seconds

Values = ParamSpec("Values")
Result = TypeVar("Result")


class RequestStore:
    """The store, for one request. ``owner`` is the id of its key."""

    def __init__(self, store: BatchStore, owner: str):
        self.store = store
        self.owner = owner

    async def run(
        self, work: Callable[Values, Result], *values: Values.args, **named: Values.kwargs
    ) -> Result:
        """The result of ``work``, which runs in a thread.

        Raises:
            ApiError: the store refuses it, or the disk fails.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(_threads, lambda: work(*values, **named))
        except (OSError, sqlite3.Error, StoreError) as error:
            raise api_error(error) from error

    async def clean(self) -> None:
        """Remove now and then what has expired; no request fails of it."""
        now = time.monotonic()
        if now < _cleaning.next_at:
            return
        _cleaning.next_at = now + _CLEAN_AFTER
        try:
            await self.run(self.store.clean)
        except ApiError as error:
            _log.log(logging.WARNING, "clean", "expired files are not removed: %s", error)


class _Cleaning:
    next_at = 0.0  # of the monotonic clock


_threads = ThreadPoolExecutor(_NUM_THREADS, "files")
_cleaning = _Cleaning()


def batch_store(request: Request) -> RequestStore:
    """The store, for ``request``.

    Raises:
        NotFound: the node has neither files nor batches.
    """
    store = context_of(request).batches
    if store is None:
        raise NotFound(
            "This server has neither files nor batches: its configuration has "
            "[server.batches] enabled = false.",
            code="batches_off",
        )
    return RequestStore(store, request.ctx.key_id)


def api_error(error: OSError | sqlite3.Error | StoreError) -> ApiError:
    """``error`` as a client sees it. Those of the disk are logged with their reason."""
    if isinstance(error, StoreError):
        return _refusal(error)
    _log.log(logging.ERROR, str(error), "files and batches: %s", error)
    full = error.errno in _FULL if isinstance(error, OSError) else "full" in str(error)
    if full:
        return StorageFull("The disk of this server has no room for it.", code="storage_full")
    return Unavailable(
        "The files and batches of this server cannot be used now; try again soon"
    )


def _refusal(error: StoreError) -> ApiError:
    if isinstance(error, QuotaExceeded):
        return TooLarge(
            f"The files of this key can have {error.limit} bytes in all, and have {error.used} "
            "without this one: delete some of them.",
            param="file",
            code="storage_quota_exceeded",
        )
    if isinstance(error, FileTooLarge):
        return TooLarge(
            f"The file is too large: at most {error.limit} bytes are accepted.",
            param="file",
            code="file_too_large",
        )
    if isinstance(error, FileInUse):
        return InvalidRequest(
            f"The file is the input of the batch '{error.batch_id}', which has not ended: "
            "cancel that batch first.",
            param="file_id",
            code="file_in_use",
        )
    if isinstance(error, TooManyOpen):
        return InvalidRequest(
            f"This key can have {error.limit} batches that have not ended, and has as many.",
            code="too_many_batches",
        )
    if isinstance(error, HasEnded):
        return InvalidRequest(
            f"Cannot cancel a batch with status '{error.status}'.",
            param="batch_id",
            code="batch_not_cancellable",
        )
    raise error
