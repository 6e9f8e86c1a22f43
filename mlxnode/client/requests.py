"""The requests of the commands to a node, or to another server of the same API."""

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import httpx2 as httpx
import msgspec

from mlxnode.client.answer import Answer, Piece
from mlxnode.client.endpoint import Endpoint
from mlxnode.client.events import BROKEN, error_text, events
from mlxnode.client.text import one_line
from mlxnode.errors import RequestError

_CONNECT = 10.0  # seconds
_SILENCE = 600.0  # seconds without a byte; another server may be silent through a long prompt
_MOST_WAITED = 120.0  # seconds that a refusal may ask to wait


class Model(msgspec.Struct):
    """A model as ``/v1/models`` tells it. Another server tells the id alone."""

    id: str
    type: str = "chat"
    status: str | None = None
    reason: str | None = None
    context_length: int | None = None
    aliases: list[str] = msgspec.field(default_factory=list)


class _Models(msgspec.Struct):
    data: list[Model]


class Client:
    """Requests to one node. The end of the block closes its connections."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        headers = {"user-agent": "mlxnode"}
        if endpoint.key is not None:
            headers["authorization"] = f"Bearer {endpoint.key}"
        self._http = httpx.Client(
            base_url=f"{endpoint.url}/v1/",
            headers=headers,
            verify=endpoint.verification(),
            timeout=httpx.Timeout(_SILENCE, connect=_CONNECT),
            trust_env=not endpoint.is_local,  # a proxy does not reach this machine
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def models(self) -> list[Model]:
        """The models that the key may use.

        Raises:
            RequestError: no answer (``status`` is None), or a refusal.
        """
        with self._answered():
            response = self._http.get("models", timeout=_CONNECT)
        self._check(response)
        try:
            return msgspec.json.decode(response.content, type=_Models).data
        except msgspec.DecodeError as error:
            raise RequestError(
                f"{self.endpoint.url} answers, but it is no server of this API: {error}", 200
            ) from error

    def stream_chat(self, body: dict[str, Any], answer: Answer) -> Generator[Piece]:
        """Ask, and let ``answer`` grow. To close the iterator ends the request at the server.

        Raises:
            RequestError: the server refuses, fails, or goes away in the middle.
        """
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        answer.start()
        with (
            self._answered(),
            self._http.stream("POST", "chat/completions", json=body) as response,
        ):
            if response.status_code != 200:
                response.read()
                self._check(response)
            yield from answer.read(events(response.iter_bytes()))

    def embed(
        self, model: str, texts: Sequence[str], dimensions: int | None
    ) -> tuple[list[list[float]], int]:
        """The vectors of ``texts`` and the number of their tokens.

        Waits where the server asks for it.

        Raises:
            RequestError: the server refuses or fails.
        """
        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        deadline = time.monotonic() + _MOST_WAITED
        while True:
            with self._answered():
                response = self._http.post("embeddings", json=body)
            pause = _pause(response)
            if pause is None or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
        self._check(response)
        try:
            found = response.json()
            vectors = [row["embedding"] for row in found["data"]]
            tokens = int(found.get("usage", {}).get("total_tokens", 0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError("the answer of the server has no embeddings", 200) from error
        if len(vectors) != len(texts):
            raise RequestError(f"{len(texts)} texts, but {len(vectors)} embeddings", 200)
        return vectors, tokens

    @contextlib.contextmanager
    def _answered(self) -> Iterator[None]:
        """An error of the connection is a ``RequestError`` in one line."""
        try:
            yield
        except httpx.ConnectError as error:
            where = self.endpoint.url
            raise RequestError(f"no node answers at {where}: {one_line(str(error))}") from error
        except httpx.RemoteProtocolError as error:
            raise RequestError(BROKEN) from error
        except httpx.TimeoutException as error:
            raise RequestError(f"{self.endpoint.url} does not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RequestError(f"{BROKEN}: {one_line(str(error))}") from error

    def _check(self, response: httpx.Response) -> None:
        """Raises RequestError if the server refused."""
        if response.status_code == 200:
            return
        try:
            text = error_text(response.json())
        except (ValueError, RecursionError):
            text = None
        status = response.status_code
        text = text or f"{self.endpoint.url} answers with the HTTP status {status}"
        if status == 401 and self.endpoint.key is None:
            text = f"{self.endpoint.url} requires a key: set $MLXNODE_API_KEY, or use --api-key"
        raise RequestError(text, status)


def _pause(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait before the next try; None: there is none."""
    if response.status_code not in (429, 503):
        return None
    if response.headers.get("x-should-retry") == "false":
        return None
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
