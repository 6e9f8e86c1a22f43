"""Two nodes behind nginx and behind Caddy, as docs/replicas.md has them."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx2 as httpx
import pytest
from support.balancers import WAIT, Balancer
from support.replicas import KEY, MODEL, Replica, two_replicas

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

PATH = "/v1/chat/completions"
AFFINITY = "x-mlxnode-affinity"
SYSTEM = {"role": "system", "content": "You are one of many, and say little. " * 5}
NUM_REQUESTS = 1000
NUM_THREADS = 16
NUM_STREAMS = 8
DRAIN_DELAYS = {"nginx": 0.0, "caddy": 3.0}  # as the document says
# Until a balancer has seen that a node is gone, requests for it may fail.
NOTICED = 0.5  # seconds


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def replicas(name, tmp_path_factory) -> Iterator[list[Replica]]:
    folder = tmp_path_factory.mktemp("replicas")
    with two_replicas(folder, drain_delay=DRAIN_DELAYS[name]) as nodes:
        yield nodes


@pytest.fixture
def nodes(replicas) -> list[Replica]:
    """Both run, whatever the test before has done to them."""
    for node in replicas:
        node.ensure()
    return replicas


@pytest.fixture
def balancer(name, nodes, tmp_path) -> Iterator[Balancer]:
    with Balancer(name, tmp_path / name, [node.address for node in nodes]) as running:
        yield running


def chat(text: str, **options: object) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 2} | options


class Outcome(NamedTuple):
    """One request: when it began, and what came of it (a status, or the name of an error)."""

    began: float
    result: int | str
    text: str = ""  # of an answer that is no success


class Load:
    """Requests from many threads at once, until ``NUM_REQUESTS`` have been sent."""

    def __init__(self, client: httpx.Client):
        self._client = client
        self._numbers = iter(range(NUM_REQUESTS))
        self._lock = threading.Lock()
        self.outcomes: list[Outcome] = []
        self._some = threading.Event()

    def wait_for_some(self) -> None:
        """Return when a tenth of the requests are answered."""
        assert self._some.wait(WAIT)

    def run(self) -> None:
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            self.outcomes.append(self._ask(number))
            if len(self.outcomes) > NUM_REQUESTS // 10:
                self._some.set()

    def _ask(self, number: int) -> Outcome:
        began = time.monotonic()
        body = chat(f"{number} is a number", max_tokens=1)
        try:
            # Caddy hashes what the client sends: so the requests reach both nodes.
            answer = self._client.post(PATH, json=body, headers={AFFINITY: f"n{number}"})
            told = str((answer.headers.get("server"), answer.text))
            return Outcome(began, answer.status_code, "" if answer.is_success else told)
        except httpx.HTTPError as error:
            return Outcome(began, repr(error))


class Stream(threading.Thread):
    """A long stream, and how it ended."""

    def __init__(self, client: httpx.Client, number: int, max_tokens: int):
        super().__init__()
        self.id = f"stream-{number}"
        self._client = client
        self._body = chat(
            f"{number} is long", stream=True, max_tokens=max_tokens, ignore_eos=True
        )
        self.begun = threading.Event()
        self.is_whole = False
        self.error = ""

    def run(self) -> None:
        try:
            headers = {"x-request-id": self.id, AFFINITY: self.id}
            with self._client.stream("POST", PATH, json=self._body, headers=headers) as answer:
                for line in answer.iter_lines():
                    if '"content"' in line:
                        self.begun.set()
                    self.is_whole = self.is_whole or line == "data: [DONE]"
                    if '"error"' in line:
                        self.error = line
        except httpx.HTTPError as error:
            self.error = repr(error)
        finally:
            self.begun.set()


def begin_streams(client: httpx.Client, max_tokens: int = 4000) -> list[Stream]:
    streams = [Stream(client, number, max_tokens) for number in range(NUM_STREAMS)]
    for stream in streams:
        stream.start()
    for stream in streams:
        assert stream.begun.wait(WAIT) and not stream.error
    return streams


def test_requests_go_through_with_tls_ids_traces_and_streams_at_once(balancer):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"x-request-id": "mine", "traceparent": trace}
    with balancer.client(KEY) as client:
        answer = client.post(PATH, json=chat("hi"), headers=headers)
        assert answer.status_code == 200 and answer.headers["x-request-id"] == "mine"
        assert answer.headers["traceparent"].split("-")[1] == trace.split("-")[1]
        assert answer.headers[AFFINITY]
        odd = client.post(PATH, json=chat("hi"), headers={AFFINITY: "what I like; and more"})
        assert odd.status_code == 200 and odd.headers[AFFINITY] == answer.headers[AFFINITY]
        assert client.get("/health").status_code == 200
        wrong = client.post(PATH, json=chat("hi", temperature=9))
        assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "temperature"
        large = client.post(PATH, content=b" " * (17 * 2**20))
        assert large.status_code == 413
        other = client.post(PATH, json=chat("hi"), headers={"authorization": "Bearer sk-no"})
        assert other.status_code == 401
        stream = Stream(client, 0, 3000)
        stream.start()
        assert stream.begun.wait(WAIT)
        assert not stream.is_whole, "the stream has come in one piece"
        stream.join(WAIT)
        assert stream.is_whole and not stream.error


def conversation(client: httpx.Client, subject: str, *, sends_back: bool) -> list[dict]:
    """The usage of each turn."""
    first = {"role": "user", "content": f"{subject} is where we begin. " * 50}
    messages, usages, headers = [SYSTEM, first], [], {}
    for turn in range(4):
        body = chat("") | {"messages": messages, "max_tokens": 8, "ignore_eos": True}
        answer = client.post(PATH, json=body, headers=headers).raise_for_status()
        if sends_back:
            headers = {AFFINITY: answer.headers[AFFINITY]}
        usages.append(answer.json()["usage"])
        said = answer.json()["choices"][0]["message"]["content"]
        messages = [*messages, {"role": "assistant", "content": said}]
        messages.append({"role": "user", "content": f"And now {turn}? " * 10})
    return usages


def hit_rate(balancer: Balancer, subject: str, *, sends_back: bool) -> float:
    """The cached part of the prompts' tokens in the turns after the first, of 16 conversations.

    All of them begin with the same system prompt, and go on in turns with others.
    """
    with balancer.client(KEY) as client, ThreadPoolExecutor(4) as pool:
        work = [
            pool.submit(conversation, client, f"{number} {subject}", sends_back=sends_back)
            for number in range(16)
        ]
        usages = [usage for one in work for usage in one.result()[1:]]
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    return cached / sum(usage["prompt_tokens"] for usage in usages)


def test_stickiness_keeps_the_prefixes(name, nodes, tmp_path):
    addresses = [node.address for node in nodes]
    with Balancer(name, tmp_path / "turns", addresses, sticky=False) as running:
        without = hit_rate(running, f"{name} in turns", sends_back=False)
    with Balancer(name, tmp_path / "sticky", addresses) as running:
        derived = hit_rate(running, f"{name} derived", sends_back=False)
        sent_back = hit_rate(running, f"{name} sent back", sends_back=True)
    rates = {"turns": without, "derived": derived, "sent back": sent_back}
    print(name, rates)
    assert derived > without + 0.1
    assert sent_back > without + 0.05  # the second turn may be the first one at its node


def test_killed_node_loses_only_what_was_under_way_there(balancer, nodes):
    with balancer.client(KEY) as client:
        streams = begin_streams(client)
        leaving = busiest(nodes, streams)
        there = leaving.requests()
        load = Load(client)
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            threads = [pool.submit(load.run) for _ in range(NUM_THREADS)]
            load.wait_for_some()
            before = time.monotonic()
            leaving.kill()
            killed = time.monotonic()
            for thread in threads:
                thread.result()
        for stream in streams:
            stream.join(WAIT)
    lost = [one for one in load.outcomes if one.result != 200]
    print(len(lost), "lost", len(there), "streams on the killed node")
    assert len(load.outcomes) == NUM_REQUESTS
    assert len(lost) <= NUM_THREADS, lost
    assert all(one.began < killed + NOTICED for one in lost), (before, killed, lost)
    for stream in streams:
        assert stream.is_whole != (stream.id in there), (stream.id, stream.error)


def test_draining_node_loses_nothing(balancer, nodes):
    with balancer.client(KEY) as client:
        streams = begin_streams(client, 1000)
        leaving = busiest(nodes, streams)
        load = Load(client)
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            threads = [pool.submit(load.run) for _ in range(NUM_THREADS)]
            load.wait_for_some()
            leaving.drain()
            for thread in threads:
                thread.result()
        for stream in streams:
            stream.join(WAIT)
    lost = [one for one in load.outcomes if one.result != 200]
    assert not lost, (len(lost), lost[:3], balancer.output()[-6000:])
    assert len(load.outcomes) == NUM_REQUESTS
    assert all(stream.is_whole and not stream.error for stream in streams)
    assert leaving.process.process.wait(WAIT) == 0


def busiest(nodes: list[Replica], streams: list[Stream]) -> Replica:
    """The node with most of the streams; waits for all, since lists are a second old."""
    ids = {stream.id for stream in streams}
    end = time.monotonic() + WAIT
    while not ids <= set().union(*(node.requests() for node in nodes)):
        assert time.monotonic() < end
        time.sleep(0.1)
    return max(nodes, key=lambda node: len(node.requests()))


def test_documents_have_a_file_for_each_balancer():
    folder = Path(__file__).parents[3] / "docs" / "replicas"
    assert {file.name for file in folder.iterdir()} == {"nginx.conf", "Caddyfile"}
