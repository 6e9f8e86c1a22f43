"""Sends spans to a collector: OpenTelemetry's SDK, with its environment variables.

Its thread sends them in batches (OTLP over HTTP). Of a collector that is down, no request
notices anything: the queue is bounded, and the log says so once a minute.
"""

import logging
import os
import threading

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mlxnode import __version__
from mlxnode.server.seldom import SeldomLog
from mlxnode.server.tracing.span import RequestSpan

_NANOSECONDS = 1_000_000_000
_propagator = TraceContextTextMapPropagator()


class SpanExport:
    """Takes spans from ``open`` to ``close``, on one thread."""

    def __init__(self, instance: str):
        """``instance`` is the name of this process among those of the node."""
        own = {
            "service.name": "mlxnode",
            "service.version": __version__,
            "service.instance.id": f"{instance}-{os.getpid()}",
        }
        resource = Resource.create(own).merge(OTELResourceDetector().detect())
        self._ids = _Ids()
        # The SDK would wait at the end of the process for as long as it likes.
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._tracer = self._provider.get_tracer("mlxnode", __version__)
        self._closing: threading.Thread | None = None

    def open(self) -> "SpanExport":
        """Send from now on, unless OTEL_TRACES_EXPORTER is "none"."""
        _log_seldom()
        if os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() != "none":
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return self

    def write(self, request: RequestSpan) -> None:
        """Queue a request with its parts, if its client's span or the sampler says so."""
        begin = round(request.received_at * _NANOSECONDS)
        self._ids.prepare(request.trace_id, request.span_id)
        span = self._tracer.start_span(
            request.name,
            _propagator.extract(request.parent or {}, trace.set_span_in_context(_NO_SPAN)),
            SpanKind.SERVER,
            request.attributes,
            start_time=begin,
        )
        if not span.is_recording():
            return
        if request.error is not None:
            span.set_status(Status(StatusCode.ERROR, request.error))
        inside = trace.set_span_in_context(span)
        for name, start, end in request.parts:
            part = self._tracer.start_span(
                name, inside, start_time=begin + round(start * _NANOSECONDS)
            )
            part.end(begin + round(end * _NANOSECONDS))
        span.end(begin + round(request.seconds * _NANOSECONDS))

    def begin_close(self) -> None:
        """Send what is queued, beside whatever else ends."""
        self._closing = threading.Thread(
            target=self._provider.shutdown, name="last spans", daemon=True
        )
        self._closing.start()

    def close(self, timeout: float) -> None:
        """Wait for the end of ``begin_close``, for at most ``timeout`` seconds."""
        if self._closing is not None:
            self._closing.join(timeout)


_NO_SPAN = trace.INVALID_SPAN


class _Ids(RandomIdGenerator):
    """Random ids, but for the next span those that its client was told."""

    def __init__(self) -> None:
        self._next: tuple[int | None, int | None] = None, None

    def prepare(self, trace_id: str | None, span_id: str | None) -> None:
        self._next = (
            None if trace_id is None else int(trace_id, 16),
            None if span_id is None else int(span_id, 16),
        )

    def generate_trace_id(self) -> int:
        told, span_id = self._next
        self._next = None, span_id
        return told or super().generate_trace_id()

    def generate_span_id(self) -> int:
        _, told = self._next
        self._next = None, None
        return told or super().generate_span_id()


class _Seldom(logging.Handler):
    """A collector that is down would be a line every second."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = SeldomLog(logging.getLogger("mlxnode.server"))

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        self._log.log(logging.WARNING, "spans", "spans are not sent: %s", text)


def _log_seldom() -> None:
    """Bring what the SDK has to say into the log of the node, once a minute."""
    logger = logging.getLogger("opentelemetry")
    logger.handlers, logger.propagate = [_Seldom()], False
