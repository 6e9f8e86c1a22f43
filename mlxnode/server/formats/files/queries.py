"""The queries of ``/v1/files``."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class FilesQuery(Struct):
    """A page of files: at most ``limit``, those after the file ``after``."""

    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    order: Literal["asc", "desc"] = "desc"
    purpose: str = ""
