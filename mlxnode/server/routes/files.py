"""``/v1/files``: the files of a key. An upload goes to the disk as it arrives."""

import asyncio
import io
from urllib.parse import quote

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.batches.files import Upload
from mlxnode.batches.rows import StoredFile
from mlxnode.server.errors import Forbidden, InvalidRequest, NotFound, UnknownCoding
from mlxnode.server.formats.files.answers import DeletedFile, File, FileList
from mlxnode.server.formats.files.form import FIELDS, FileForm, read_form
from mlxnode.server.formats.files.queries import FilesQuery
from mlxnode.server.http.auth import sent_keys
from mlxnode.server.http.batch_store import RequestStore, batch_store
from mlxnode.server.http.body import json_response, name_ignored
from mlxnode.server.http.context import context_of
from mlxnode.server.http.multipart import FormReader
from mlxnode.server.http.query import read_query
from mlxnode.server.http.timed_request import TimedRequest

blueprint = Blueprint("files")

_PIECE = 262_144  # bytes that are read and written at a time
_MEMORY = 3 * _PIECE  # bytes of an upload, in buffers
_FRAME = 4096  # bytes of a form, at most, before a file is surely as large as the rest
_EXPIRES = "expires_after"
_BYTES = "application/octet-stream"
_READ = ["GET", "HEAD"]


@blueprint.post("/v1/files", stream=True, ctx_form=FileForm, ctx_answer=File)
async def create_file(request: Request) -> HTTPResponse:
    """Upload a file: a form with ``file`` and ``purpose``, which is streamed to the disk."""
    kept = batch_store(request)
    _check_page(request)
    if request.ctx.codings:
        raise UnknownCoding(
            "An upload must not have a Content-Encoding: send the form as it is",
            code="unsupported_content_encoding",
        )
    await kept.clean()
    config = context_of(request).config.server.batches
    upload = await kept.run(
        kept.store.files.begin,
        kept.owner,
        quota=config.max_bytes_per_key,
        max_bytes=config.max_file_bytes,
    )
    try:
        file = await _receive(request, kept, upload)
    except BaseException:
        # Also when the client has left, which ends this task: its quota is free again.
        await asyncio.shield(kept.run(upload.discard))
        raise
    return json_response(File.of(file))


@blueprint.get("/v1/files", ctx_answer=FileList, ctx_query=FilesQuery)
async def list_files(request: Request) -> HTTPResponse:
    """The files of the key, the newest first unless ``order`` says otherwise."""
    kept, query = batch_store(request), read_query(request, FilesQuery)
    after = None
    if query.after:
        after = await _found(kept, query.after, "after")
    page = await kept.run(
        kept.store.files.page,
        kept.owner,
        after=after,
        limit=query.limit + 1,
        newest_first=query.order == "desc",
        purpose=query.purpose or None,
    )
    files = [File.of(file) for file in page[: query.limit]]
    ids = [file.id for file in files] or [None]
    return json_response(FileList(files, ids[0], ids[-1], has_more=len(page) > query.limit))


@blueprint.get("/v1/files/<file_id>", ctx_answer=File)
async def file(request: Request, file_id: str) -> HTTPResponse:
    """A file: its name, its size and when it expires."""
    return json_response(File.of(await _found(batch_store(request), file_id)))


@blueprint.delete("/v1/files/<file_id>", ctx_answer=DeletedFile)
async def delete_file(request: Request, file_id: str) -> HTTPResponse:
    """Delete a file, unless a batch that has not ended reads it."""
    kept = batch_store(request)
    if not await kept.run(kept.store.files.delete, kept.owner, file_id):
        raise _unknown(file_id)
    return json_response(DeletedFile(file_id))


@blueprint.route("/v1/files/<file_id>/content", methods=_READ, ctx_media_types=(_BYTES,))
async def file_content(request: Request, file_id: str) -> HTTPResponse | None:
    """The bytes of a file."""
    kept = batch_store(request)
    stored = await _found(kept, file_id)
    headers = {
        "content-length": str(stored.bytes),
        "content-disposition": _disposition(stored.filename),
        "x-content-type-options": "nosniff",
    }
    if request.method == "HEAD":
        return HTTPResponse(headers=headers, content_type=_BYTES)
    # Opened before the answer begins: it can be deleted meanwhile.
    content = await kept.run(_open, kept, stored)
    try:
        response = await request.respond(headers=headers, content_type=_BYTES)
        while response is not None and (piece := await kept.run(content.read, _PIECE)):
            await response.send(piece)
        return None  # Sanic ends the answer
    finally:
        content.close()


async def _receive(request: Request, kept: RequestStore, upload: Upload) -> StoredFile:
    """Read the form, and keep its file."""
    if not isinstance(request, TimedRequest):
        raise TypeError("the application makes requests of another class")
    form = FormReader(request.headers.get("content-type", ""), FIELDS, upload.write)
    # A file that has no room is refused before its bytes are sent.
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdigit() else 0
    await kept.run(upload.reserve, max(size - _FRAME, 1))
    buffer = bytearray()
    async for piece in request.stream_body(_MEMORY):
        buffer += piece
        if len(buffer) >= _PIECE:
            await kept.run(form.feed, bytes(buffer))
            buffer.clear()
    await kept.run(form.feed, bytes(buffer))
    filename = form.finish()
    if _EXPIRES in form.ignored:
        raise InvalidRequest(
            f"Send '{_EXPIRES}' as the fields {', '.join(FIELDS[1:])}.",
            param=_EXPIRES,
            code="invalid_value",
        )
    if form.ignored:
        name_ignored(request, form.ignored)
    read = read_form(form.fields)
    return await kept.run(
        kept.store.keep, upload, filename=filename, purpose=read.purpose, seconds=read.seconds
    )


def _check_page(request: Request) -> None:
    """Refuse a form that a foreign page sends, for which browsers ask nobody.

    Raises:
        Forbidden: without a key, which such a page does not have.
    """
    origin = request.headers.get("origin")
    if origin is None or sent_keys(request.headers):
        return
    allowed = context_of(request).cors.headers_for(origin)
    if "access-control-allow-origin" not in allowed:
        raise Forbidden(
            "A page of this origin cannot upload files: its origin is not in cors_origins.",
            code="origin_not_allowed",
        )


async def _found(kept: RequestStore, id: str, param: str = "id") -> StoredFile:
    """The file ``id``. Raises NotFound."""
    found = await kept.run(kept.store.files.get, kept.owner, id)
    if found is None:
        raise _unknown(id, param)
    return found


def _unknown(id: str, param: str = "id") -> NotFound:
    return NotFound(f"No such File object: {id}", param=param, code="file_not_found")


def _open(kept: RequestStore, file: StoredFile) -> io.FileIO:
    try:
        return io.FileIO(kept.store.files.path(file.id))
    except FileNotFoundError:  # deleted in this moment
        raise _unknown(file.id) from None


def _disposition(filename: str) -> str:
    """The name for programs that download the file (RFC 6266)."""
    is_plain = [c.isascii() and c.isprintable() and c not in '"\\' for c in filename]
    plain = "".join(c if ok else "_" for c, ok in zip(filename, is_plain, strict=True))
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
