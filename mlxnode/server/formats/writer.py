"""Writers: they turn the output of a model into the response bodies of one endpoint."""

import hashlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import msgspec

import mlxnode
from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import Delta
from mlxnode.server.formats.usage import Usage

MIN_LOGPROB = -9999.0  # OpenAI's, for a token that cannot be sampled: JSON has no infinity


class AnswerWriter(Protocol):
    """Writes the answer to one request, as one response or as the chunks of a stream."""

    def response(self, deltas: list[Delta], usage: Usage) -> msgspec.Struct:
        """The whole answer; each delta has all the output of one choice."""
        ...

    def opening_chunks(self) -> Sequence[msgspec.Struct]:
        """The chunks before any text."""
        ...

    def chunks(self, delta: Delta) -> Sequence[msgspec.Struct]:
        """The chunks for new output of one choice."""
        ...

    def closing_chunks(self, usage: Usage) -> Sequence[msgspec.Struct]:
        """The chunks after the end of the last choice."""
        ...


@dataclass(frozen=True)
class AnswerIdentity:
    """The fields that the response, or all chunks, of one answer share."""

    id: str
    created: int  # Unix seconds
    model: str
    system_fingerprint: str

    @classmethod
    def new(cls, prefix: str, served: ServedModel) -> Self:
        """The identity of a new answer of ``served``; its id starts with ``prefix``."""
        return cls(
            id=f"{prefix}{uuid.uuid4().hex}",
            created=int(time.time()),
            model=served.id,
            system_fingerprint=_fingerprint(served),
        )


def _fingerprint(served: ServedModel) -> str:
    """A digest of this program's version and of the model's weights."""
    facts = f"{mlxnode.__version__} {served.id} {served.created} {served.size_bytes}"
    return f"fp_{hashlib.sha256(facts.encode()).hexdigest()[:10]}"
