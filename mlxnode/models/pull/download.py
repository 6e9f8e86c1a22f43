"""Fetches the files of a listing into the hub's cache, and goes on where a fetch has ended.

``huggingface_hub`` 2.4 deletes what it has of a file when a download ends early. So the large
files are fetched here, each into ``blobs/<sha256>.incomplete``, which is kept, and the library
does all the rest: the small files, the links and the references of its cache.
"""

import concurrent.futures
import fcntl
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from mlxnode import __version__
from mlxnode.errors import ModelError
from mlxnode.models.pull.failures import hub_errors
from mlxnode.models.pull.listing import Listing, RemoteFile

_THREADS = 4
_TIMEOUT = 20.0  # seconds without a byte
_TRIES = 5  # without a new byte
_SPARE = 1 << 26  # bytes that stay free on the disk
_INTERVAL = 0.1  # seconds between two reports


class _Stopped(Exception):
    """Another file has failed, or the user has stopped the download."""


class Fetched:
    """The bytes that all threads have fetched, and the flag that ends them."""

    def __init__(self, start: int):
        self.bytes = start
        self.is_stopped = False
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes; a negative number takes them back.

        Raises:
            _Stopped: the threads are to end.
        """
        if self.is_stopped:
            raise _Stopped
        with self._lock:
            self.bytes += count


def check_space(listing: Listing) -> int:
    """The free bytes of the disk with the cache.

    Raises:
        ModelError: they are too few for what is to be fetched.
    """
    folder = listing.cache
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if listing.missing + _SPARE > free:
        raise ModelError(
            f"{listing.repository}: {listing.missing / 1e9:.2f} GB are to be fetched, "
            f"but the disk of {listing.cache} has {free / 1e9:.2f} GB free"
        )
    return free


def download(listing: Listing, on_progress: Callable[[int], None]) -> Path:
    """Fetch what is missing; returns the folder of the commit.

    ``on_progress`` gets the bytes on the disk, again and again, on the calling thread. When
    this function ends early, what is fetched stays, and the next call goes on there.

    Raises:
        ModelError: the download failed.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    headers = build_hf_headers(library_name="mlxnode", library_version=__version__)
    large = [file for file in listing.files if file.sha256 is not None and not file.is_here]
    fetched = Fetched(sum(file.bytes_here for file in listing.files))
    with hub_errors(listing.repository, listing.revision):
        _fetch_all(listing, large, headers, fetched, on_progress)
        disable_progress_bars()
        names = [_literal(file.name) for file in listing.files]
        # By its commit first: a reference never leads to a revision that is not whole.
        for revision in dict.fromkeys((listing.commit, listing.revision)):
            snapshot_download(listing.repository, revision=revision, allow_patterns=names)
    on_progress(listing.size)
    return listing.snapshot


def _literal(name: str) -> str:
    """A pattern that only ``name`` matches."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _fetch_all(
    listing: Listing,
    files: list[RemoteFile],
    headers: Mapping[str, str],
    fetched: Fetched,
    on_progress: Callable[[int], None],
) -> None:
    pool = concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="pull")
    try:
        running = {
            pool.submit(_fetch, _url(listing, file), file, headers, fetched) for file in files
        }
        while running:
            done, running = concurrent.futures.wait(
                running, _INTERVAL, concurrent.futures.FIRST_EXCEPTION
            )
            on_progress(fetched.bytes)
            for future in done:
                future.result()
    finally:
        fetched.is_stopped = True
        pool.shutdown(wait=False, cancel_futures=True)


def _url(listing: Listing, file: RemoteFile) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(listing.repository, file.name, revision=listing.commit)


def _fetch(url: str, file: RemoteFile, headers: Mapping[str, str], fetched: Fetched) -> None:
    """Fetch one file into its blob."""
    file.blob.parent.mkdir(parents=True, exist_ok=True)
    with file.partial.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # another process may fetch the same file
        if file.blob.exists():
            return
        if (size := stream.seek(0, 2)) > file.size:
            stream.truncate(0)
            fetched.add(-min(size, file.size))
        _fetch_rest(url, stream, file.size, headers, fetched)
        stream.flush()
        if _digest(file.partial) != file.sha256:
            file.partial.unlink()
            raise ModelError(
                f"{file.name}: what was fetched is not what the hub lists (sha256); try again"
            )
        file.partial.rename(file.blob)


def _fetch_rest(
    url: str, stream: BinaryIO, size: int, headers: Mapping[str, str], fetched: Fetched
) -> None:
    """Append the bytes that are missing; a lost connection is made again."""
    import httpx2

    tries, before = 0, -1
    while (have := stream.seek(0, 2)) < size:
        tries = 0 if have > before else tries + 1
        before = have
        if tries >= _TRIES:
            raise OSError(f"{url}: the hub sends no more than {have} of {size} bytes")
        try:
            _append(url, stream, have, size, headers, fetched)
        except httpx2.TransportError:
            if tries + 1 >= _TRIES:
                raise
            time.sleep(min(2**tries, 8) / 2)


def _append(
    url: str,
    stream: BinaryIO,
    have: int,
    size: int,
    headers: Mapping[str, str],
    fetched: Fetched,
) -> None:
    """Append what one response brings from byte ``have`` on."""
    from huggingface_hub.utils import get_session, hf_raise_for_status

    # The bytes as they are: a compressed answer has no ranges.
    asked = {**headers, "accept-encoding": "identity", "range": f"bytes={have}-"}
    with get_session().stream("GET", url, headers=asked, timeout=_TIMEOUT) as response:
        hf_raise_for_status(response)
        if have and response.status_code == 200:  # the server knows no ranges
            stream.truncate(0)
            fetched.add(-have)
            have = 0
        for chunk in response.iter_raw():
            have += len(chunk)
            if have > size:
                raise OSError(f"{url}: the hub sends more than the {size} bytes that it lists")
            fetched.add(len(chunk))
            stream.write(chunk)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
