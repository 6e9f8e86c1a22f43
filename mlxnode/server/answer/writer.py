"""The protocol between the stream of an answer and the wire formats."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from mlxnode.server.answer.choice import ChoiceDelta, FinishedChoice
from mlxnode.server.answer.usage import TokenCounts


class AnswerWriter(Protocol):
    """Writes the answer to one request: one object a request, so that id and time stay."""

    def response(self, choices: list[FinishedChoice], usage: TokenCounts) -> msgspec.Struct:
        """The body of an answer that is not a stream."""
        ...

    def opening_chunks(self) -> Sequence[msgspec.Struct]:
        """The chunks of the stream before any text."""
        ...

    def chunks(self, delta: ChoiceDelta) -> Sequence[msgspec.Struct]:
        """The chunks for new output of one choice."""
        ...

    def closing_chunks(self, usage: TokenCounts) -> Sequence[msgspec.Struct]:
        """The chunks after the end of the last choice."""
        ...
