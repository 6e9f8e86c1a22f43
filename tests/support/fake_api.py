"""A server of the API that writes what a test tells it to, event by event."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.certificates import Pair

MODELS = [{"id": "fake", "type": "chat", "status": "ready", "context_length": 4096}]
Script = Callable[[dict[str, Any]], Iterator[bytes]]


def chunk(text: str = "", *, finish: str | None = None, reasoning: str = "") -> bytes:
    """One event of a chat completion."""
    delta = {
        name: value for name, value in (("content", text), ("reasoning_content", reasoning))
    }
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"model": "fake", "choices": [choice]})


def event(value: Any) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def usage(tokens: int) -> bytes:
    counts = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    return event({"model": "fake", "choices": [], "usage": counts})


DONE = b"data: [DONE]\n\n"


def says(*texts: str) -> Script:
    """An answer of these pieces."""

    def script(_: dict[str, Any]) -> Iterator[bytes]:
        yield from map(chunk, texts)
        yield chunk(finish="stop") + usage(len(texts)) + DONE

    return script


class FakeApi:
    """Listens on a free port until the block ends.

    ``script`` makes the stream of each chat request from its body; it can be replaced.
    ``bodies`` are the requests; ``left`` is set when a client goes away in the middle.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        models: list[dict[str, Any]] | None = None,
        key: str | None = None,
        pair: Pair | None = None,
    ):
        self.script = script or says("Hello", " there.")
        self.models = MODELS if models is None else models
        self.key = key
        self.unknown: str | None = None  # a field that is refused
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.bodies: list[dict[str, Any]] = []
        self.left = threading.Event()
        self.asked = threading.Event()
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._scheme = "http" if pair is None else "https"
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeApi":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.api.key and self.headers["Authorization"] != f"Bearer {self.api.key}":
            self._answer(401, {"error": {"message": "Incorrect API key provided."}})
        else:
            self._answer(200, {"object": "list", "data": self.api.models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.api.bodies.append(body)
        if self.api.refusal is not None:
            self._answer(*self.api.refusal)
        elif self.api.unknown in body:
            self._answer(400, {"error": {"message": f"Unknown field {self.api.unknown}"}})
        elif self.path == "/v1/embeddings":
            rows = [{"embedding": [float(len(text)), 1.0]} for text in body["input"]]
            self._answer(200, {"data": rows, "usage": {"total_tokens": len(rows)}})
        else:
            self._stream(body)

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.api.asked.set()
        try:
            for data in self.api.script(body):
                self.wfile.write(data)
                self.wfile.flush()
        except OSError:
            self.api.left.set()

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""
