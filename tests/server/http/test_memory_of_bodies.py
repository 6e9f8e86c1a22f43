"""Large bodies at once: what a worker holds of them, and who waits."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.raw_sockets import connect, head, read_all, read_head
from support.resident import Resident, resident_mb

pytestmark = pytest.mark.slow


MB = 1_000_000
LARGE = 15 * MB
NUM_LARGE = 40


@pytest.fixture(scope="module")
def wide(start_worker, served_models):
    """A worker with keys, as it is configured without a word."""
    with start_worker(served_models, {}) as worker:
        worker.connect_engine()
        yield worker


def large_request(worker, key: str | None, *, encoding: str = "length") -> bytes:
    body = b'{"model":"org/tiny-text","prompt":"hi","max_tokens":6,"padding":"%b"}'
    body %= b"y" * (LARGE - len(body))
    field = f"Content-Length: {len(body)}"
    if encoding == "chunked":
        field = "Transfer-Encoding: chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return head("POST", "/v1/completions", field, "Connection: close", key=key) + body


def send_large(worker, data: bytes) -> bytes:
    with connect(worker) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return read_all(connection)


def send_many(worker, data: bytes) -> tuple[set[bytes], Resident]:
    """The statuses of ``NUM_LARGE`` requests at once, and the memory of the worker."""
    send_large(worker, data)  # what is loaded with the first of all is not counted
    with Resident(worker.process.pid) as resident, ThreadPoolExecutor(NUM_LARGE) as pool:
        answers = list(pool.map(lambda _: send_large(worker, data), range(NUM_LARGE)))
    return {answer.partition(b"\r\n")[0][9:12] for answer in answers}, resident


def test_large_bodies_without_a_key_take_no_memory(wide):
    statuses, resident = send_many(wide, large_request(wide, None))
    assert statuses == {b"401"}
    assert resident.growth < 40, resident.growth


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["length", "chunked"])
def test_large_bodies_wait_for_their_bytes_and_all_are_served(wide, encoding):
    """600 MB come at once, and the worker holds four bodies of 16 MB, and what it parses."""
    statuses, resident = send_many(wide, large_request(wide, wide.key, encoding=encoding))
    assert statuses == {b"200"}
    assert resident.growth < 200, resident.growth
    after = resident_mb(wide.process.pid)
    assert after - resident.before < 60, (resident.before, after)


def test_bodies_that_hold_all_bytes_do_not_stop_the_small_ones(wide):
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(connect(wide))
            connection.sendall(large_request(wide, wide.key)[: 5 * MB // 10])
        body = json.dumps({"model": "org/tiny-text", "prompt": "hi", "max_tokens": 6}).encode()
        request = head("POST", "/v1/completions", f"Content-Length: {len(body)}", key=wide.key)
        for pieces in ([request, body], [request + body[:3], body[3:]]):
            small = stack.enter_context(connect(wide))
            for piece in pieces:
                small.sendall(piece)
            assert read_head(small).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_gets_no_bytes_in_time_is_a_503(start_worker, served_models):
    server = {"request_timeout": 2.0, "max_body_bytes": MB, "max_buffered_bytes": MB}
    with start_worker(served_models, {}, server) as worker, contextlib.ExitStack() as stack:
        worker.connect_engine()
        length = f"Content-Length: {9 * MB // 10}"
        statuses = set()
        connections = [stack.enter_context(connect(worker)) for _ in range(4)]
        for connection in connections:
            data = head("POST", "/v1/completions", length, key=worker.key)
            connection.sendall(data + b" " * 1000)
        for connection in connections:
            answer = read_all(connection)
            statuses.add(answer[9:12])
            assert (b"retry-after" in answer) == (answer[9:12] == b"503")
        assert statuses <= {b"408", b"503"} and b"503" in statuses
        send_small = connect(worker)
        send_small.sendall(head("GET", "/v1/models", "Connection: close", key=worker.key))
        assert read_all(send_small).startswith(b"HTTP/1.1 200 ")
        send_small.close()
