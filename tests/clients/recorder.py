"""A proxy between a client and the node that keeps what both say."""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# They belong to one connection, not to the message.
_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}
_TIMEOUT = 120  # seconds


@dataclass
class Exchange:
    """A request and the answer to it."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    status: int = 0
    answered: dict[str, str] = field(default_factory=dict)  # the headers of the answer
    answer: bytes = b""

    @property
    def json(self) -> Any:
        """The body, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def ignored(self) -> str:
        """The fields that the node has named as ignored."""
        return self.answered.get("x-mlxnode-ignored", "")

    @property
    def counts(self) -> tuple[int, int]:
        """The tokens of the prompt, and how many of them were cached.

        Raises:
            AssertionError: the answer does not tell.
        """
        for document in reversed(self.documents):
            answer = document.get("response") or document.get("message") or document
            usage = answer.get("usage") or {}
            if "prompt_tokens" in usage:
                return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
            if "cache_read_input_tokens" in usage:
                cached = usage["cache_read_input_tokens"]
                return usage["input_tokens"] + cached, cached
            if "input_tokens" in usage:
                return usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]
        raise AssertionError(self.answer.decode(errors="replace"))

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The JSON documents of the answer: its events, or the only one."""
        text = self.answer.decode("utf-8", "replace")
        if not self.answered.get("content-type", "").startswith("text/event-stream"):
            return [json.loads(text)] if text.startswith("{") else []
        lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
        return [json.loads(line) for line in lines if line != "[DONE]"]


class Recorder:
    """Passes on what comes to ``url``; ``exchanges`` keeps it in the order of arrival."""

    def __init__(self, target: str):
        self.exchanges: list[Exchange] = []
        self._target = urlsplit(target)
        recorder = self

        class Handler(_Handler):
            owner = recorder

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def ask(self, exchange: Exchange) -> Iterator[http.client.HTTPResponse]:
        """Send the request of ``exchange`` on; the block reads the answer.

        It asks for the counts of a chat stream, also where the client does not.
        """
        connection = http.client.HTTPConnection(
            self._target.hostname, self._target.port, timeout=_TIMEOUT
        )
        headers = {k: v for k, v in exchange.headers.items() if k not in _HOP}
        body = exchange.body or None
        if exchange.path.endswith("/chat/completions") and exchange.json.get("stream"):
            asked = exchange.json | {"stream_options": {"include_usage": True}}
            body = json.dumps(asked).encode()
        with contextlib.closing(connection):
            connection.request(exchange.method, exchange.path, body, headers)
            with connection.getresponse() as response:
                yield response

    @classmethod
    @contextlib.contextmanager
    def before(cls, target: str) -> Iterator["Recorder"]:
        """A recorder that runs as long as the block."""
        recorder = cls(target)
        thread = threading.Thread(target=recorder._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            recorder._server.shutdown()
            recorder._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Recorder

    def _pass_on(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        exchange = Exchange(self.command, self.path, headers, self._read())
        self.owner.exchanges.append(exchange)
        with self.owner.ask(exchange) as response:
            self._answer(exchange, response)

    def _answer(self, exchange: Exchange, response: http.client.HTTPResponse) -> None:
        exchange.status = response.status
        exchange.answered = {name.lower(): value for name, value in response.getheaders()}
        self.send_response(response.status)
        for name, value in exchange.answered.items():
            if name not in _HOP:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while data := response.read1(65536):
            exchange.answer += data
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if self.command != "HEAD":
            self.wfile.write(b"0\r\n\r\n")

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client has left
            super().handle()

    do_GET = do_POST = do_HEAD = do_DELETE = do_OPTIONS = _pass_on

    def _read(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        pass
