"""The base of the wire formats' writers, and the defaults that OpenAI's older formats share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from mlxnode.server.answer.choice import ChoiceDelta, FinishedChoice
from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.errors import ApiError, ErrorBody, ErrorEnvelope


class AnswerWriter(ABC):
    """Writes the answer to one request: one object a request, so that id and time stay.

    A stream is: opening chunks, chunks for each delta, closing chunks and ``end``, each chunk
    in the frame of a server-sent event. While there is nothing to say, it has ``keep_alive``
    events; a failure in the middle is the last event.
    """

    end = b"data: [DONE]\n\n"
    early_keep_alive: ClassVar[bytes] = b": keep-alive\n\n"  # before any other event

    @abstractmethod
    def response(self, choices: list[FinishedChoice], usage: TokenCounts) -> msgspec.Struct:
        """The body of an answer that is not a stream."""

    @abstractmethod
    def opening_chunks(self, usage: TokenCounts) -> Sequence[msgspec.Struct]:
        """The chunks before any text. Only the prompt is counted in ``usage`` so far."""

    @abstractmethod
    def chunks(self, delta: ChoiceDelta) -> Sequence[msgspec.Struct]:
        """The chunks for new output of one choice."""

    @abstractmethod
    def closing_chunks(self, usage: TokenCounts) -> Sequence[msgspec.Struct]:
        """The chunks after the end of the last choice."""

    async def before_end(self) -> None:  # noqa: B027 (most formats have nothing to do)
        """Called when the whole answer is written, before the end of it is sent."""

    def frame(self, chunk: msgspec.Struct) -> bytes:
        """``chunk`` as a server-sent event."""
        return b"data: %b\n\n" % msgspec.json.encode(chunk)

    def keep_alive(self) -> bytes:
        """An event that says that the answer is still being made."""
        return b": keep-alive\n\n"

    def failure(self, error: ApiError) -> bytes:
        """The last event of a stream that fails."""
        return self.frame(
            ErrorEnvelope(ErrorBody(error.message, "server_error", None, error.code))
        )

    @classmethod
    def early_failure(cls, error: ApiError, request_id: str) -> bytes:
        """The only event of a stream that fails before its answer has begun."""
        return b"data: %b\n\n" % msgspec.json.encode(error.to_envelope())


def named_frame(name: str, chunk: msgspec.Struct) -> bytes:
    """``chunk`` as a server-sent event that has a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(chunk))
