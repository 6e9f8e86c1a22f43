"""Tables of raw messages (tests/support/raw_*.py), over sockets to a real worker."""

import itertools
import json
import random
import re
import socket

import pytest
from support.raw_bodies import BODIES
from support.raw_heads import HEADS
from support.raw_messages import Message
from support.raw_served import SERVED

WAIT = 60.0  # seconds
REFUSED = HEADS | BODIES
HIDDEN = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Request-Id: hidden\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def exchange(worker, pieces: list[bytes]) -> bytes:
    """Send the pieces, end the client's side, and read all answers."""
    with socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def statuses(answer: bytes) -> tuple[int, ...]:
    return tuple(map(int, STATUS.findall(answer)))


def cut(data: bytes, seed: int) -> list[bytes]:
    """``data`` in up to twelve pieces."""
    rng = random.Random(seed)
    places = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(11))})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def check_refused(message: Message, answer: bytes) -> None:
    assert statuses(answer) == message.statuses and b"hidden" not in answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    error = json.loads(body)["error"]
    assert error["type"] == "invalid_request_error" and error["message"]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_message_hides_no_request(plain_worker, name):
    message = REFUSED[name]
    check_refused(message, exchange(plain_worker, [message.data + HIDDEN]))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_message_in_pieces_hides_no_request(plain_worker, name):
    message = REFUSED[name]
    pieces = cut(message.data + HIDDEN, seed=len(name))
    check_refused(message, exchange(plain_worker, pieces))


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_served_message_is_served(plain_worker, name, seed):
    message = SERVED[name]
    pieces = [message.data] if seed is None else cut(message.data, seed)
    assert statuses(exchange(plain_worker, pieces)) == message.statuses


@pytest.mark.parametrize("name", [name for name in SERVED if len(SERVED[name].data) < 1000])
def test_served_message_byte_by_byte_is_served(plain_worker, name):
    data = SERVED[name].data
    pieces = [data[i : i + 1] for i in range(len(data))]
    assert statuses(exchange(plain_worker, pieces)) == SERVED[name].statuses


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "close, TE"])
def test_connection_close_ends_the_connection(plain_worker, value):
    data = SERVED["plain"].data[:-2] + f"Connection: {value}\r\n\r\n".encode()
    assert statuses(exchange(plain_worker, [data + HIDDEN])) == (200,)


def test_served_message_keeps_the_connection_for_the_next(plain_worker):
    for message in SERVED.values():
        if b"HTTP/1.0" not in message.data:
            answer = exchange(plain_worker, [message.data + HIDDEN])
            assert answer.count(b"x-request-id: hidden") == 1, message


@pytest.mark.slow
@pytest.mark.parametrize("require_auth", [True, False])
def test_no_message_writes_to_the_log(start_worker, served_models, capfd, require_auth):
    with start_worker(served_models, {"require_auth": require_auth}) as worker:
        worker.connect_engine()
        capfd.readouterr()
        for message in (REFUSED | SERVED).values():
            exchange(worker, [message.data])
        assert capfd.readouterr().err == ""


def test_answer_before_the_body_ends_the_connection_without_an_interim_response(plain_worker):
    head = SERVED["expectation"].data.partition(b"{")[0]
    with socket.create_connection(("127.0.0.1", plain_worker.port), timeout=WAIT) as connection:
        connection.sendall(head.replace(b"/v1/completions", b"/v1/nowhere"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert statuses(answer) == (404,) and b"\r\nconnection: close" in answer


@pytest.mark.parametrize("size", [3_000_000, 40_000_000])
def test_answer_before_the_body_is_read_is_not_lost_in_a_reset(plain_worker, size):
    """The client sends all of its body before it reads, as most clients do."""
    head = b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    with socket.create_connection(("127.0.0.1", plain_worker.port), timeout=WAIT) as connection:
        connection.sendall(head + b" " * size)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert statuses(answer) == (405,)
