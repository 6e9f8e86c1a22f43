"""The parts that the writers of all formats share; see ``answer.writer.AnswerWriter``."""

import hashlib
import time
import uuid
from dataclasses import dataclass
from typing import Self

import mlxnode
from mlxnode.models.served import ServedModel

MIN_LOGPROB = -9999.0  # OpenAI's, for a token that cannot be sampled: JSON has no infinity


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
