"""What ``/v1/files`` answers."""

from typing import Literal, Self

from msgspec import Struct

from mlxnode.batches.rows import StoredFile


class File(Struct):
    """A file. Times are Unix seconds; ``expires_at`` is null if it never expires."""

    id: str
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, file: StoredFile) -> Self:
        return cls(
            file.id, file.bytes, file.created_at, file.expires_at, file.filename, file.purpose
        )


class FileList(Struct):
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class DeletedFile(Struct):
    id: str
    deleted: bool = True
    object: Literal["file"] = "file"
