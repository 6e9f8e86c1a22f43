"""Raw requests over bare sockets to a worker, from any address of this machine."""

import contextlib
import socket

WAIT = 60.0  # seconds


def connect(worker, address: str = "127.0.0.1", buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(WAIT)
    connection.bind((address, 0))
    connection.connect(("127.0.0.1", worker.port))
    return connection


def head(method: str, path: str, *fields: str, key: str | None = None) -> bytes:
    own = [f"Authorization: Bearer {key}"] if key else []
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    return "\r\n".join([*lines, *own, *fields, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the end of the connection, be it a reset."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            received += more
    return received


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """What arrives until ``mark`` is in it."""
    data = b""
    while mark not in data:
        received = connection.recv(65536)
        assert received, data
        data += received
    return data


def read_head(connection: socket.socket) -> bytes:
    return read_until(connection, b"\r\n\r\n")
