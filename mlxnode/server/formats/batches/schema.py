"""The body of ``POST /v1/batches``."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct
from pydantic import Field

from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import NonEmpty
from mlxnode.server.formats.files.form import MAX_SECONDS, MIN_SECONDS

Endpoint = Literal[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/rerank",
    "/v1/responses",
    "/v1/score",
]
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
MAX_WINDOW = 30 * 86_400  # seconds
MAX_PAIRS = 16


class OutputExpiry(Body):
    """When the files of results expire: so many seconds after they were made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_SECONDS, le=MAX_SECONDS)]


class BatchBody(Body):
    """A batch: the file with its requests, and until when they are to be answered."""

    input_file_id: NonEmpty
    endpoint: Endpoint
    completion_window: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}[mhd]$")]
    metadata: (
        Annotated[
            dict[
                Annotated[str, Field(max_length=64)],
                Annotated[str, Field(max_length=512)],
            ],
            Field(max_length=MAX_PAIRS),
        ]
        | None
    ) = None
    output_expires_after: OutputExpiry | None = None

    # Within it, a number is no text.
    exact: ClassVar = ("metadata",)

    @property
    def seconds(self) -> int:
        """The completion window in seconds."""
        return int(self.completion_window[:-1]) * _UNITS[self.completion_window[-1]]


class CancelBatchBody(Body):
    """An object without fields."""


class BatchesQuery(Struct):
    """A page of batches, the newest first: at most ``limit``, those after ``after``."""

    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
