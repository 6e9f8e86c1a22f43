"""Spans for OpenTelemetry: what one request was, and how it reaches a collector.

``export.py`` imports opentelemetry, an optional dependency: only a worker with ``[server]
tracing`` imports it. May import ``seldom`` alone.
"""
