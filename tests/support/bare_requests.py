"""Requests over a bare socket, whose answers a test reads as it likes."""

import json
import socket

WAIT = 20.0  # seconds


def post(worker, path: str, **body) -> socket.socket:
    """Send a request over a bare socket, and leave the answer unread."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {worker.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT)
    connection.sendall(head.encode() + data)
    return connection


def chat(worker, **options) -> socket.socket:
    messages = [{"role": "user", "content": "hi"}]
    return post(worker, "/v1/chat/completions", model="tiny-chat", messages=messages, **options)
