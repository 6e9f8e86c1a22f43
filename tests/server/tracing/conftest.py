"""A worker that traces, and the collector of its spans."""

import httpx2 as httpx
import pytest
from support.bare_requests import WAIT
from support.otlp_receiver import OtlpReceiver


@pytest.fixture(scope="module")
def collector():
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(start_worker, served_models, collector):
    """A worker with spans; the variables are those of its process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20collector")
        patch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        patch.delenv("OTEL_SERVICE_NAME", raising=False)
        server = {"tracing": True, "keep_alive_after": 0.0}
        api = {"max_requests_per_minute": 1000}
        with start_worker(served_models, api, server) as worker:
            worker.connect_engine()
            yield worker


@pytest.fixture
def worker(traced):
    traced.settle()
    return traced


@pytest.fixture
def client(worker):
    with httpx.Client(base_url=worker.url, headers=worker.headers, timeout=WAIT) as client:
        yield client
