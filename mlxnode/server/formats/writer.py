"""How generated text is written for a client: whole, and as the chunks of a stream."""

import hashlib
import time
import uuid
from typing import Protocol

import msgspec
from msgspec import UNSET

import mlxnode
from mlxnode.models.served import ServedModel
from mlxnode.server.answer.choice import Delta
from mlxnode.server.formats.usage import Usage
from mlxnode.server.prompt.token_text import TokenText

LEAST_LOGPROB = -9999.0  # OpenAI's, for what cannot happen: JSON has no infinity


class Format(Protocol):
    """The bodies of one endpoint; one object a request, so that id and time stay the same."""

    def whole(self, deltas: list[Delta], usage: Usage) -> msgspec.Struct: ...

    def opening(self) -> list[msgspec.Struct]:
        """The chunks that come before any text."""
        ...

    def chunks(self, delta: Delta) -> list[msgspec.Struct]: ...

    def closing(self, usage: Usage) -> list[msgspec.Struct]:
        """The chunks that come after the last choice has ended."""
        ...


class _Identity:
    """What all bodies of one request share."""

    def __init__(
        self,
        served: ServedModel,
        prefix: str,
        *,
        include_usage: bool,
        logprobs_of: TokenText | None,
    ):
        """``logprobs_of``: what names tokens, if log-probabilities were asked for."""
        self._shared = {
            "id": f"{prefix}{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": served.id,
            "system_fingerprint": _fingerprint(served),
        }
        self._include_usage = include_usage
        self._token_text = logprobs_of
        # With include_usage, every chunk but the last says that it has none.
        self._no_usage = None if include_usage else UNSET


def _fingerprint(served: ServedModel) -> str:
    """Changes when what answers changes: this program or the model's weights."""
    facts = f"{mlxnode.__version__} {served.id} {served.created} {served.size_bytes}"
    return f"fp_{hashlib.sha256(facts.encode()).hexdigest()[:10]}"
