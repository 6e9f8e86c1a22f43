"""One line of a batch as a request over the inner socket, and its answer as a line."""

import asyncio
import json
import random
import uuid
from pathlib import Path
from typing import NamedTuple

import httpx2 as httpx
import msgspec

from mlxnode.batches.reading import Request
from mlxnode.batches.rows import Result, Tokens
from mlxnode.process.inner_socket import KEY_HEADER

FIRST_PAUSE = 0.25  # seconds until a request is sent again, doubled each time
MAX_PAUSE = 30.0
MAX_FAILURES = 3  # answers with a 500 of one request, before it is the answer
_CONNECT_TIMEOUT = 10.0  # seconds
_TRY_AGAIN = {429, 503}
# JSON has them as they are, in texts alone; some readers take them for ends of lines.
_ENDS_OF_LINES = ("\x85", "\u2028", "\u2029")


class Outcome(NamedTuple):
    """The line of the output file, or of the error file if it has failed; without its end."""

    data: bytes
    has_failed: bool
    tokens: Tokens = Tokens()

    def of(self, line: int) -> Result:
        """The result of the line of this number."""
        return Result(line, self.data, self.has_failed, self.tokens)


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Error(msgspec.Struct):
    code: str
    message: str


class _OutputLine(msgspec.Struct):
    id: str
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


class _Details(msgspec.Struct):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Usage(msgspec.Struct):
    """Of chat, completions and embeddings; and as responses and messages call it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Used(msgspec.Struct):
    usage: _Usage | None = None


class LineSender:
    """Sends requests to the workers, until each has its answer."""

    def __init__(self, socket_path: Path, max_connections: int):
        limits = httpx.Limits(
            max_connections=max_connections, max_keepalive_connections=max_connections
        )
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket_path), limits=limits),
            base_url="http://localhost",
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT),  # it waits for idle moments
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def answer(self, request: Request, endpoint: str, key: str) -> Outcome:
        """The answer to ``request`` of the key with the id ``key``.

        What is not the fault of the request is tried again, without an end: the caller cancels.
        """
        if request.is_stream:
            return refusal_of_stream(request.custom_id)
        headers = {KEY_HEADER: key, "content-type": "application/json"}
        pause, num_failures = FIRST_PAUSE, 0
        while True:
            wait = pause
            try:
                answer = await self._client.post(
                    endpoint, content=bytes(request.body), headers=headers
                )
            except httpx.TransportError:
                pass  # the worker has died, or ends
            else:
                num_failures += answer.status_code >= 500 and answer.status_code != 503
                if not _is_to_be_repeated(answer, num_failures):
                    return _outcome_of(request.custom_id, answer)
                wait = max(wait, _retry_after(answer))
            # Not all at once: they would fill the queue that has refused them.
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))
            pause = min(2 * pause, MAX_PAUSE)


def error_line(custom_id: str, code: str, message: str) -> Outcome:
    """The line of a request that has no answer."""
    line = _OutputLine(_new_id(), custom_id, error=_Error(code, message))
    return Outcome(_encode(line), has_failed=True)


def refusal_of_stream(custom_id: str) -> Outcome:
    """The answer to a request for a stream, which a file cannot hold."""
    error = {
        "message": "A request of a batch cannot be a stream: remove 'stream', or set it to "
        "false.",
        "type": "invalid_request_error",
        "param": "stream",
        "code": "stream_not_supported",
    }
    body = msgspec.json.encode({"error": error})
    id = _new_id()
    line = _OutputLine(id, custom_id, _Response(400, id, msgspec.Raw(body)))
    return Outcome(_encode(line), has_failed=True)


def _is_to_be_repeated(answer: httpx.Response, num_failures: int) -> bool:
    if answer.headers.get("x-should-retry") == "false":
        return False
    return answer.status_code in _TRY_AGAIN or 0 < num_failures < MAX_FAILURES


def _retry_after(answer: httpx.Response) -> float:
    """The seconds that the server asks to wait, up to a bound."""
    try:
        return min(float(answer.headers.get("retry-after", 0)), MAX_PAUSE)
    except ValueError:
        return 0.0


def _outcome_of(custom_id: str, answer: httpx.Response) -> Outcome:
    has_failed = not answer.is_success
    body = _one_line(answer.content)
    id = answer.headers.get("x-request-id", "")
    line = _OutputLine(_new_id(), custom_id, _Response(answer.status_code, id, body))
    tokens = Tokens() if has_failed else _tokens_of(answer.content)
    return Outcome(_encode(line), has_failed, tokens)


def _one_line(content: bytes) -> msgspec.Raw:
    """The body of an answer, which is JSON, without ends of lines."""
    if b"\n" not in content and b"\r" not in content and content:
        return msgspec.Raw(content)
    try:
        value = json.loads(content)
    except ValueError:
        value = content.decode(errors="replace")
    return msgspec.Raw(json.dumps(value).encode())


def _tokens_of(content: bytes) -> Tokens:
    try:
        usage = msgspec.json.decode(content, type=_Used).usage
    except msgspec.DecodeError:
        return Tokens()
    if usage is None:
        return Tokens()
    of_prompt = usage.prompt_tokens_details or usage.input_tokens_details or _Details()
    of_answer = usage.completion_tokens_details or usage.output_tokens_details or _Details()
    return Tokens(
        prompt=usage.prompt_tokens or usage.input_tokens,
        cached=of_prompt.cached_tokens,
        completion=usage.completion_tokens or usage.output_tokens,
        reasoning=of_answer.reasoning_tokens,
    )


def _encode(line: _OutputLine) -> bytes:
    """The line as JSON that is one line for everybody, also for ``str.splitlines``."""
    data = msgspec.json.encode(line)
    for end in _ENDS_OF_LINES:
        data = data.replace(end.encode(), b"\\u%04x" % ord(end))
    return data


def _new_id() -> str:
    return f"batch_req_{uuid.uuid4().hex}"
