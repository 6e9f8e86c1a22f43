"""Bodies of many kinds and sizes hold up no other request of a real worker."""

import httpx2 as httpx
import pytest
from support.hostile_bodies import BODIES, CHAT, USER
from support.loop_slices import LoopSlices
from support.worker_process import started_worker

pytestmark = pytest.mark.slow

_LONGEST = 0.05  # seconds of CPU time of the event loop at a time
_PATIENCE = 110.0  # seconds: the test fails by what it measures, not by this


@pytest.fixture(scope="module")
def slices():
    return LoopSlices()


@pytest.fixture(scope="module")
def measured(served_models, slices):
    with started_worker(served_models, {"require_auth": False}, run=slices.run) as worker:
        worker.connect_engine()
        for path, make in BODIES.values():  # what is found at the first request of a kind
            post(worker, path, make(100))
        yield worker


def post(worker, path: str, body: bytes) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return httpx.post(worker.url + path, content=body, headers=headers, timeout=_PATIENCE)


@pytest.mark.parametrize("size", [250_000, 1_000_000, 5_000_000])
@pytest.mark.parametrize("kind", BODIES)
def test_no_body_holds_up_the_event_loop(measured, slices, kind, size):
    path, make = BODIES[kind]
    body = make(size)
    slices.forget()
    response = post(measured, path, body)
    longest = slices.longest
    assert response.status_code in (200, 400, 413), response.text[:300]
    if response.status_code != 200:
        error = response.json()["error"]
        assert error["message"] and len(error["message"]) <= 1000
    assert longest < _LONGEST, f"{longest:.3f} s, {response.text[:200]}"


def test_a_body_after_all_of_them_is_served(measured):
    response = post(measured, "/v1/chat/completions", _usual())
    assert response.status_code == 200


def _usual() -> bytes:
    return httpx.Request("POST", "http://x", json={"model": CHAT, "messages": [USER]}).read()
