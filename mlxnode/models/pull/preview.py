"""A model that is not downloaded, as a folder: whether it fits is known before its weights are.

Small files are fetched. Of a file of weights only the header is, and the rest is a hole of the
right size: whoever looks at shapes sees the same as after the download.
"""

import concurrent.futures
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mlxnode import __version__
from mlxnode.config.tables import ModelConfig
from mlxnode.errors import ModelError
from mlxnode.models.describe import describe
from mlxnode.models.discovery.kinds import check_gguf, kind_of_folder, kind_of_gguf
from mlxnode.models.files import ModelFiles
from mlxnode.models.gguf.folder import write_folder
from mlxnode.models.gguf.header import parse_header
from mlxnode.models.pull.failures import hub_errors
from mlxnode.models.pull.listing import Listing, RemoteFile
from mlxnode.models.served import ServedModel

_THREADS = 8
_TIMEOUT = 20.0  # seconds
_SMALL = 4 << 20  # bytes; what is larger is a tokenizer, whose content nobody looks at
_GUESS = 1 << 17  # bytes of a header of safetensors, at first
_MAX_HEADER = 1 << 25
_GGUF_GUESS = 1 << 20
_MAX_GGUF_HEADER = 1 << 28


@contextmanager
def preview(listing: Listing) -> Iterator[ServedModel]:
    """The facts of the model; the files that it names are gone afterwards.

    Raises:
        ModelError: the hub cannot be asked, or the model cannot be served.
    """
    folder = Path(tempfile.mkdtemp(prefix="mlxnode-preview-"))
    pool = concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="preview")
    try:
        with hub_errors(listing.repository, listing.revision):
            for _ in pool.map(lambda file: _put(listing, file, folder), listing.files):
                pass
        yield _describe(listing, folder)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # ctrl-C waits for no answer of the hub
        shutil.rmtree(folder, ignore_errors=True)


def _describe(listing: Listing, folder: Path) -> ServedModel:
    files = ModelFiles(folder, folder)
    try:
        if listing.path != listing.snapshot:  # a GGUF file
            files = ModelFiles(folder / "derived", folder / listing.files[0].name)
            files.folder.mkdir()
            check_gguf(files.weights)
            write_folder(files.weights, files.folder)
            type = kind_of_gguf(files)
        else:
            type = kind_of_folder(folder, listing.repository.rpartition("/")[2])
        return describe(listing.repository, ModelConfig(path=str(folder), type=type), files)
    except ModelError as error:
        # The folder is none that the user knows.
        raise ModelError(str(error).replace(str(folder), listing.repository)) from error


def _put(listing: Listing, file: RemoteFile, folder: Path) -> None:
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.is_here:
        target.symlink_to(file.blob if file.blob.exists() else file.pointer.resolve())
        return
    suffix = PurePosixPath(file.name).suffix
    if suffix == ".safetensors":
        head = _safetensors_head(listing, file)
    elif suffix == ".gguf":
        head = _gguf_head(listing, file)
    else:
        head = _read(listing, file, file.size) if file.size <= _SMALL else b""
    with target.open("wb") as stream:
        stream.write(head)
        stream.truncate(file.size)


def _safetensors_head(listing: Listing, file: RemoteFile) -> bytes:
    head = _read(listing, file, _GUESS)
    length = 8 + int.from_bytes(head[:8], "little")
    if len(head) < min(length, file.size, _MAX_HEADER):
        head += _read(listing, file, min(length, _MAX_HEADER), start=len(head))
    return head[:length]


def _gguf_head(listing: Listing, file: RemoteFile) -> bytes:
    """The header, which does not say how long it is."""
    head, wanted = b"", _GGUF_GUESS
    while True:
        head += _read(listing, file, wanted, start=len(head))
        try:
            parse_header(head)
            return head
        except ValueError:
            if len(head) >= min(file.size, _MAX_GGUF_HEADER):
                return head  # whoever reads it says what is wrong
            wanted *= 4


def _read(listing: Listing, file: RemoteFile, end: int, *, start: int = 0) -> bytes:
    """The bytes from ``start`` to ``end``, or to the end of the file."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    end = min(end, file.size)
    if end <= start:
        return b""
    headers = build_hf_headers(library_name="mlxnode", library_version=__version__)
    headers |= {"accept-encoding": "identity", "range": f"bytes={start}-{end - 1}"}
    url = hf_hub_url(listing.repository, file.name, revision=listing.commit)
    found = bytearray()
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT) as response:
        hf_raise_for_status(response)
        skipped = start if response.status_code == 200 else 0  # the server knows no ranges
        for chunk in response.iter_raw(1 << 16):
            found += chunk
            if len(found) >= end - start + skipped:
                break
    return bytes(found[skipped : skipped + end - start])
