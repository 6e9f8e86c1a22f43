"""Writes the answers of ``/v1/responses``."""

import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from msgspec.structs import replace

from mlxnode.server.answer.choice import ChoiceDelta, FinishedChoice
from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.answer.writer import AnswerWriter, named_frame
from mlxnode.server.errors import ApiError, Cancelled
from mlxnode.server.formats.responses.answers import (
    IncompleteDetails,
    Response,
    ResponseError,
    ResponseUsage,
)
from mlxnode.server.formats.responses.events import (
    Completed,
    Created,
    Event,
    Failed,
    Incomplete,
    InProgress,
)
from mlxnode.server.formats.responses.output import ItemForms, Output

# Stores an answer; False: it cannot be stored.
Keep = Callable[[Response], Awaitable[bool]]


class ResponsesWriter(AnswerWriter):
    """Writes the answer to one request, as one document or as a stream of events."""

    end = b""  # the last event is the end

    def __init__(self, draft: Response, forms: ItemForms, keep: Keep | None = None):
        """``draft`` is the answer without its output; ``keep`` stores it when it is whole."""
        self._draft = draft
        self._keep = keep
        self._whole: Response | None = None
        self._output = Output(draft.id.removeprefix("resp_"), forms)
        self._sequence_number = 0
        self._is_cut = False

    def response(self, choices: list[FinishedChoice], usage: TokenCounts) -> Response:
        for choice in choices:
            self.chunks(choice)
        return self._finished(usage)

    def opening_chunks(self, usage: TokenCounts) -> list[Event]:
        return self._count([Created(response=self._draft), InProgress(response=self._draft)])

    def chunks(self, delta: ChoiceDelta) -> list[Event]:
        self._is_cut = self._is_cut or delta.finish_reason == "length"
        return self._count(self._output.write(delta))

    def closing_chunks(self, usage: TokenCounts) -> list[Event]:
        finished = self._finished(usage)
        kind = Incomplete if self._is_cut else Completed
        return self._count([kind(response=finished)])

    def frame(self, chunk: msgspec.Struct) -> bytes:
        assert isinstance(chunk, Event)
        return named_frame(chunk.kind, chunk)

    def keep_alive(self) -> bytes:
        (event,) = self._count([InProgress(response=self._draft)])
        return self.frame(event)

    def failure(self, error: ApiError) -> bytes:
        code = Cancelled.code if isinstance(error, Cancelled) else "server_error"
        failed = replace(
            self._draft,
            status="failed",
            error=ResponseError(code, error.message),
            output=self._output.items,
        )
        (event,) = self._count([Failed(response=failed)])
        return self.frame(event)

    @classmethod
    def early_failure(cls, error: ApiError, request_id: str) -> bytes:
        return named_frame("error", error.to_envelope())

    def _finished(self, usage: TokenCounts) -> Response:
        self._whole = replace(
            self._draft,
            status="incomplete" if self._is_cut else "completed",
            completed_at=None if self._is_cut else int(time.time()),
            incomplete_details=IncompleteDetails("max_output_tokens") if self._is_cut else None,
            output=self._output.items,
            usage=ResponseUsage.of(usage),
        )
        return self._whole

    async def before_end(self) -> None:
        whole = self._whole
        if whole is not None and self._keep is not None and not await self._keep(whole):
            whole.store = False

    def _count(self, events: Iterable[Event]) -> list[Event]:
        """``events`` with their numbers."""
        counted = list(events)
        for event in counted:
            event.sequence_number = self._sequence_number
            self._sequence_number += 1
        return counted
