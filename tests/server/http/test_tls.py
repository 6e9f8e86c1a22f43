"""A worker that speaks TLS, through real clients and through broken ones."""

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator

import httpx2 as httpx
import openai
import pytest
from support.bare_requests import WAIT
from support.certificates import Pair, make_pair
from support.worker_process import KEY, WorkerProcess

from mlxnode.config.certificate import Certificate
from mlxnode.messages.control import Access, Drain, Ping, Pong
from mlxnode.messages.data import Abort, Generate

ASK = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}


def read(pair: Pair) -> Certificate:
    return Certificate(pair.certificate.read_bytes(), pair.key.read_bytes())


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def tls_worker(start_worker, served_models, pair) -> Iterator[WorkerProcess]:
    with start_worker(served_models, {}, certificate=read(pair)) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def worker(tls_worker) -> WorkerProcess:
    tls_worker.settle()
    return tls_worker


def trusting(pair: Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pair.certificate))


def connect(worker: WorkerProcess, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT)
    return context.wrap_socket(raw, server_hostname="localhost")


@contextlib.contextmanager
def client(worker: WorkerProcess, pair: Pair) -> Iterator[openai.OpenAI]:
    url = f"https://127.0.0.1:{worker.port}/v1"
    with (
        httpx.Client(verify=trusting(pair)) as http,
        openai.OpenAI(
            base_url=url, api_key=KEY, max_retries=0, timeout=WAIT, http_client=http
        ) as sdk,
    ):
        yield sdk


def head(path: str, body: bytes = b"", *, close: bool = False) -> bytes:
    last = "Connection: close\r\n" if close else ""
    text = (
        f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {KEY}\r\n{last}Content-Length: {len(body)}\r\n\r\n"
    )
    return text.encode() + body


def rest_of(connection: socket.socket) -> bytes:
    received = b""
    while more := connection.recv(65536):
        received += more
    return received


def test_tls_answers_the_sdk_streamed_and_not(worker, pair):
    with client(worker, pair) as sdk:
        assert sdk.chat.completions.create(**ASK).choices[0].message.content == "Hello!"
        chunks = sdk.chat.completions.create(**ASK, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == "Hello!"


def test_tls_is_refused_by_a_client_that_does_not_trust_it(worker, tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(worker, trusting(make_pair(tmp_path))).close()


def test_tls_needs_version_1_2(worker, pair):
    context = trusting(pair)
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(worker, context).close()


def test_tls_client_that_leaves_a_stream_is_noticed(worker, pair):
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")
    body = json.dumps(ASK | {"stream": True}).encode()
    with connect(worker, trusting(pair)) as connection:
        connection.sendall(head("/v1/chat/completions", body))
        received = b""
        while b"abc" not in received:
            received += connection.recv(4096)
    uid = worker.engine.next(Generate).uid
    assert worker.engine.next(Abort).uid == uid


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nope"])
def test_plain_text_is_told_to_use_https(worker, path):
    with socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as connection:
        connection.sendall(head(path))
        status, _, body = rest_of(connection).partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 400 ")
    error = json.loads(body)["error"]
    assert error["code"] == "not_tls" and "https://" in error["message"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff" + b"\0" * 70_000,
        b"\x16" * 1000,
        b"\x80\x2e\x01\x03\x01",  # SSL 2
        b"\0" * 100,
        b"",
    ],
)
def test_broken_handshakes_end_and_nothing_is_logged(worker, pair, data, capfd):
    for _ in range(20):
        with (
            socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as connection,
            contextlib.suppress(ConnectionError),
        ):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            rest_of(connection)
    with client(worker, pair) as sdk:
        assert sdk.models.list().data
    assert capfd.readouterr().err == ""


def test_many_handshakes_at_once(worker, pair):
    context = trusting(pair)

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", worker.port, ssl=context, server_hostname="localhost"
        )
        writer.write(head("/v1/models", close=True))
        answer = await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        return answer

    async def ask_all() -> list[bytes]:
        return await asyncio.gather(*(ask() for _ in range(200)))

    answers = asyncio.run(ask_all())
    assert {answer[:15] for answer in answers} == {b"HTTP/1.1 200 OK"}


# --- a worker that the test changes or ends -------------------------------------------


@pytest.fixture
def own_tls_worker(start_worker, served_models, pair) -> Iterator[WorkerProcess]:
    with start_worker(served_models, {}, certificate=read(pair)) as worker:
        worker.connect_engine()
        yield worker


def settled(worker: WorkerProcess) -> None:
    worker.send(Ping(9))
    worker.wait_for(Pong)


def test_tls_sends_the_end_of_an_answer_to_a_slow_reader(own_tls_worker, pair):
    worker = own_tls_worker
    # What is accepted inherits it: the system then keeps little of an answer.
    worker._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(WAIT)
    raw.connect(("127.0.0.1", worker.port))
    with trusting(pair).wrap_socket(raw, server_hostname="localhost") as connection:
        connection.sendall(head("/openapi.json", close=True))
        received = connection.recv(1)
        settled(worker)  # the answer is written, and the connection closed
        received += rest_of(connection)
    answer = received.partition(b"\r\n\r\n")[2]
    assert len(answer) > 100_000 and json.loads(answer)["openapi"]


def test_new_certificate_is_shown_to_new_connections(own_tls_worker, pair, tmp_path):
    worker, new = own_tls_worker, make_pair(tmp_path, "new")
    with connect(worker, trusting(pair)) as old:
        worker.send(Access(keys=worker.keys, certificate=read(new)))
        settled(worker)
        with connect(worker, trusting(new)) as fresh:
            fresh.sendall(head("/v1/models", close=True))
            assert rest_of(fresh).startswith(b"HTTP/1.1 200 ")
        old.sendall(head("/v1/models", close=True))
        assert rest_of(old).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(worker, trusting(pair)).close()


def test_stream_goes_on_while_its_key_is_removed_and_the_certificate_is_new(
    own_tls_worker, pair, tmp_path
):
    worker, new = own_tls_worker, make_pair(tmp_path, "new")
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")
    with client(worker, pair) as sdk:
        chunks = sdk.chat.completions.create(**ASK, stream=True)
        uid = worker.engine.next(Generate).uid
        others = [key for key in worker.keys if key.digest != worker.keys[0].digest]
        worker.send(Access(keys=others, certificate=read(new)))
        settled(worker)
        worker.engine.update(uid, "def")
        worker.engine.update(uid, [], "stop")
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == "abcdef"
    with client(worker, new) as sdk, pytest.raises(openai.AuthenticationError):
        sdk.models.list()


@pytest.mark.long
def test_drain_does_not_wait_for_handshakes_nor_for_idle_connections(own_tls_worker, pair):
    worker = own_tls_worker
    with (
        socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as silent,
        socket.create_connection(("127.0.0.1", worker.port), timeout=WAIT) as begun,
        connect(worker, trusting(pair)) as idle,
    ):
        begun.sendall(b"\x16\x03\x01")
        idle.sendall(head("/v1/models"))
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        worker.send(Drain(600.0))
        worker.process.join(WAIT)
        assert worker.process.exitcode == 0
        for connection in (silent, begun):
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""


def test_drain_lets_a_stream_over_tls_end(own_tls_worker, pair):
    worker, texts = own_tls_worker, []
    worker.engine.on_generate = lambda message: worker.engine.update(message.uid, "abc")

    def ask() -> None:
        with client(worker, pair) as sdk:
            chunks = sdk.chat.completions.create(**ASK, stream=True)
            texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))

    thread = threading.Thread(target=ask)
    thread.start()
    uid = worker.engine.next(Generate).uid
    worker.send(Drain(600.0))
    settled(worker)
    worker.engine.update(uid, "def")
    worker.engine.update(uid, [], "stop")
    thread.join(WAIT)
    assert texts == ["abcdef"]
    worker.process.join(WAIT)
    assert worker.process.exitcode == 0
