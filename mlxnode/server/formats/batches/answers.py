"""What ``/v1/batches`` answers."""

from typing import Literal, Self

from msgspec import Struct

from mlxnode.batches.rows import BatchStatus, StoredBatch


class BatchError(Struct):
    """Why the input file is refused; ``line`` is counted from 1."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchErrors(Struct):
    data: list[BatchError]
    object: Literal["list"] = "list"


class RequestCounts(Struct):
    total: int
    completed: int
    failed: int


class InputDetails(Struct):
    cached_tokens: int


class OutputDetails(Struct):
    reasoning_tokens: int


class BatchUsage(Struct):
    """The tokens of all answers."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Batch(Struct):
    """A batch. Times are Unix seconds; null: not yet, or never."""

    id: str
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    model: str | None
    metadata: dict[str, str] | None
    object: Literal["batch"] = "batch"

    @classmethod
    def of(cls, batch: StoredBatch) -> Self:
        errors = [BatchError(*problem) for problem in batch.errors]
        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            errors=BatchErrors(errors) if errors else None,
            input_file_id=batch.input_file_id,
            completion_window=batch.completion_window,
            status=batch.status,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            created_at=batch.created_at,
            in_progress_at=batch.in_progress_at,
            expires_at=batch.expires_at,
            finalizing_at=batch.finalizing_at,
            completed_at=batch.completed_at,
            failed_at=batch.failed_at,
            expired_at=batch.expired_at,
            cancelling_at=batch.cancelling_at,
            cancelled_at=batch.cancelled_at,
            request_counts=RequestCounts(batch.total, batch.completed, batch.failed),
            usage=BatchUsage(
                batch.input_tokens,
                InputDetails(batch.cached_tokens),
                batch.output_tokens,
                OutputDetails(batch.reasoning_tokens),
                batch.input_tokens + batch.output_tokens,
            ),
            model=batch.model,
            metadata=batch.metadata,
        )


class BatchList(Struct):
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"
