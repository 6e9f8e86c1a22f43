"""One request as a span with its parts, without anything of OpenTelemetry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Part(NamedTuple):
    """A part of a request: seconds since the head of the request had arrived."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True, kw_only=True)
class RequestSpan:
    """A request that has ended. ``parts`` have their names, and the span's time around them.

    ``carrier`` has the headers ``traceparent`` and ``tracestate`` of the client, as far as it
    sent them. ``error`` says in a few words why the node failed; None: it did not.
    """

    name: str
    received_at: float  # seconds since 1970
    seconds: float
    attributes: Mapping[str, str | int | Sequence[str]]
    parts: Sequence[Part] = ()
    carrier: Mapping[str, str] = field(default_factory=dict)
    span_id: int | None = None  # that the client was told; None: any
    trace_id: int | None = None  # the same, where the client sent none
    error: str | None = None
