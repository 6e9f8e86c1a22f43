"""``/v1/batches``: many requests in a file, which are answered in idle moments."""

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.batches.rows import StoredBatch
from mlxnode.server.errors import InvalidRequest, NotFound
from mlxnode.server.formats.batches.answers import Batch, BatchList
from mlxnode.server.formats.batches.schema import (
    MAX_WINDOW,
    BatchBody,
    BatchesQuery,
    CancelBatchBody,
)
from mlxnode.server.http.batch_store import RequestStore, batch_store
from mlxnode.server.http.body import json_response, read_body, read_optional_body
from mlxnode.server.http.context import context_of
from mlxnode.server.http.query import read_query

blueprint = Blueprint("batches")


@blueprint.post("/v1/batches", ctx_plain_body=BatchBody, ctx_stores=True, ctx_answer=Batch)
async def create_batch(request: Request) -> HTTPResponse:
    """Answer all requests of a file, one a line, when nobody else waits."""
    kept = batch_store(request)
    body = await read_body(request, BatchBody)
    if body.seconds > MAX_WINDOW:
        raise InvalidRequest(
            f"Invalid 'completion_window': at most 30 days, got '{body.completion_window}'.",
            param="completion_window",
            code="completion_window_too_long",
        )
    file = await kept.run(kept.store.files.get, kept.owner, body.input_file_id)
    if file is not None and file.purpose != "batch":
        raise InvalidRequest(
            f"Invalid 'input_file_id': the file has the purpose '{file.purpose}', not 'batch'.",
            param="input_file_id",
            code="invalid_value",
        )
    expiry = body.output_expires_after
    batch = await kept.run(
        kept.store.create,
        kept.owner,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        seconds=body.seconds,
        metadata=body.metadata,
        output_seconds=None if expiry is None else expiry.seconds,
        max_open=context_of(request).config.server.batches.max_open_per_key,
    )
    if batch is None:
        raise NotFound(
            f"No such File object: {body.input_file_id}",
            param="input_file_id",
            code="file_not_found",
        )
    context_of(request).wake_batches()
    return json_response(Batch.of(batch))


@blueprint.get("/v1/batches", ctx_answer=BatchList, ctx_query=BatchesQuery)
async def list_batches(request: Request) -> HTTPResponse:
    """The batches of the key, the newest first."""
    kept, query = batch_store(request), read_query(request, BatchesQuery)
    after = await _found(kept, query.after, "after") if query.after else None
    page = await kept.run(kept.store.page, kept.owner, after=after, limit=query.limit + 1)
    batches = [Batch.of(batch) for batch in page[: query.limit]]
    ids = [batch.id for batch in batches] or [None]
    return json_response(BatchList(batches, ids[0], ids[-1], has_more=len(page) > query.limit))


@blueprint.get("/v1/batches/<batch_id>", ctx_answer=Batch)
async def batch(request: Request, batch_id: str) -> HTTPResponse:
    """A batch: how far it is, and the ids of its files."""
    return json_response(Batch.of(await _found(batch_store(request), batch_id)))


@blueprint.post(
    "/v1/batches/<batch_id>/cancel", ctx_optional_body=CancelBatchBody, ctx_answer=Batch
)
async def cancel_batch(request: Request, batch_id: str) -> HTTPResponse:
    """Cancel a batch: what is answered already is in its files when it is ``cancelled``."""
    await read_optional_body(request, CancelBatchBody)
    kept = batch_store(request)
    cancelled = await kept.run(kept.store.cancel, kept.owner, batch_id)
    if cancelled is None:
        raise _unknown(batch_id)
    context_of(request).wake_batches()
    return json_response(Batch.of(cancelled))


async def _found(kept: RequestStore, id: str, param: str = "batch_id") -> StoredBatch:
    """The batch ``id``. Raises NotFound."""
    found = await kept.run(kept.store.get, kept.owner, id)
    if found is None:
        raise _unknown(id, param)
    return found


def _unknown(id: str, param: str = "batch_id") -> NotFound:
    return NotFound(f"No batch found with id '{id}'.", param=param, code="batch_not_found")
