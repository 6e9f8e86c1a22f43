"""One request as a span with its parts, without anything of OpenTelemetry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """A part of a request: seconds since the head of the request had arrived."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True, kw_only=True)
class RequestSpan:
    """A request that has ended. ``parts`` have their names, and the span's time around them.

    ``parent`` has the headers ``traceparent`` and ``tracestate`` of the client's span. The ids
    are those that the client and the logs were told, in hexadecimal; None: any. ``error`` says
    in a few words why the node failed; None: it did not.
    """

    name: str
    received_at: float  # seconds since 1970
    seconds: float
    attributes: Mapping[str, str | int | Sequence[str]]
    parts: Sequence[Part] = ()
    parent: Mapping[str, str] | None = None  # None: the trace begins here
    trace_id: str | None = None
    span_id: str | None = None
    error: str | None = None
