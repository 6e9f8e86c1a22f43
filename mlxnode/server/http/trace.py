"""Trace Context (W3C): which trace of a larger system a request belongs to.

Source: https://www.w3.org/TR/trace-context/ (level 1), sections 3.2 and 3.3.
"""

import contextvars
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

_TRACEPARENT = re.compile(
    "([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
_MEMBER = re.compile(  # of a tracestate: a key, "=", a value
    "(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})="
    "[ -+\\--<>-~]{0,255}[!-+\\--<>-~]",
    re.ASCII,
)
_MAX_MEMBERS = 32
_SAMPLED = 0x01


def _new_span() -> str:
    """Eight random bytes in hexadecimal, not all of them zero."""
    return f"{secrets.randbelow(2**64 - 1) + 1:016x}"


@dataclass(frozen=True)
class TraceContext:
    """The span of one request in its trace; ids are in hexadecimal.

    ``parent_id`` is the span of the client, None if the trace begins here; ``state`` is the
    tracestate, which systems of tracing pass on.
    """

    trace_id: str
    parent_id: str | None = None
    is_sampled: bool = True
    state: str = ""
    span_id: str = field(default_factory=_new_span)

    @property
    def traceparent(self) -> str:
        """The header with the span of this request."""
        return f"00-{self.trace_id}-{self.span_id}-{self.is_sampled:02x}"

    @classmethod
    def begin(cls) -> "TraceContext":
        """A new trace."""
        return cls(f"{secrets.randbelow(2**128 - 1) + 1:032x}")


def trace_of(traceparent: Sequence[str], tracestate: Sequence[str]) -> TraceContext | None:
    """The trace that the headers of a request name; None if they name none that is valid."""
    found = (
        _TRACEPARENT.fullmatch(traceparent[0].strip(" \t")) if len(traceparent) == 1 else None
    )
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    # Later versions may have more fields, version 0 has none, and ff is no version.
    if version == "ff" or (version == "00" and more):
        return None
    if not (trace_id.strip("0") and parent_id.strip("0")):
        return None
    is_sampled = bool(int(flags, 16) & _SAMPLED)
    return TraceContext(trace_id, parent_id, is_sampled, _state_of(tracestate))


def _state_of(headers: Sequence[str]) -> str:
    """The tracestate of the headers; empty if one of its members is not valid."""
    members = [member.strip(" \t") for member in ",".join(headers).split(",")]
    members = [member for member in members if member]
    keys = {member.partition("=")[0] for member in members}
    is_valid = len(keys) == len(members) <= _MAX_MEMBERS
    return ",".join(members) if is_valid and all(map(_MEMBER.fullmatch, members)) else ""


# Of the request that the current task answers.
current: contextvars.ContextVar[TraceContext | None] = contextvars.ContextVar(
    "trace", default=None
)


def trace_lines() -> None:
    """Add its trace to each line of the log that a request causes, from now on."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_add_trace)


def _add_trace(record: logging.LogRecord) -> bool:
    trace = current.get()
    if trace is not None and not hasattr(record, "trace_id"):
        record.trace_id = trace.trace_id
        record.msg = f"{record.msg} trace_id={trace.trace_id} span_id={trace.span_id}"
    return True
