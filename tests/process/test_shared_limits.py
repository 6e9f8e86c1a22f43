"""Limits that several nodes count in a real Redis: races, faults, and two nodes over HTTP."""

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest
from support.certificates import make_pair
from support.node_process import API_KEY, NodeProcess
from support.redis_server import WAIT, RedisServer, free_port
from support.shared_ledger import SharedLedger

from mlxnode.config.several import SharedLimitsConfig
from mlxnode.config.tables import ApiConfig
from mlxnode.doctor.findings import Finding
from mlxnode.doctor.shared_limits import check_shared_limits
from mlxnode.messages.control import Reserve

pytestmark = pytest.mark.clients
HOLDER = ("worker 0", 1)
REQUESTS, TOKENS, EACH = 300, 40_000, 100
LIMITS = {"max_requests_per_minute": REQUESTS, "max_tokens_per_minute": TOKENS}
NODE = """
[api]
address = "127.0.0.1:0"
api_key = "{key}"
max_requests_per_minute = 5
[api.models.all-minilm-l6-v2]
path = "demo/all-minilm-l6-v2"
type = "embedding"
[server]
workers = 1
[server.shared_limits]
redis = "{url}"
when_unreachable = "refuse"
"""


@pytest.fixture
def server(tmp_path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def ledger_of() -> Iterator[Callable[..., SharedLedger]]:
    opened: list[SharedLedger] = []

    def make(url: str, **settings) -> SharedLedger:
        opened.append(SharedLedger(url, ApiConfig.model_validate(LIMITS), **settings))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


def race(url: str, node: int, begin, results) -> None:
    """The main function of a process that is one node: as many requests as all may make."""
    ledger = SharedLedger(url, ApiConfig.model_validate(LIMITS)).wait_until_reachable()
    begin.wait(WAIT)
    for ticket in range(REQUESTS):
        ledger.send((node, 1), Reserve(ticket, "key", "m", EACH, 0))
    answers = [ledger.answer() for _ in range(REQUESTS)]
    results.put(sum(answer.refused is None for answer in answers))
    ledger.close()


def test_four_nodes_that_race_are_granted_the_limit_and_no_more(server):
    spawn = multiprocessing.get_context("spawn")
    begin, results = spawn.Barrier(4), spawn.Queue()
    nodes = [
        spawn.Process(target=race, args=(server.url, i, begin, results), daemon=True)
        for i in range(4)
    ]
    try:
        for node in nodes:
            node.start()
        granted = [results.get(timeout=WAIT) for _ in nodes]
    finally:
        for node in nodes:
            node.kill()
            node.join()
        results.close()
    # Both buckets refill while the nodes race: 5 requests a second.
    assert REQUESTS <= sum(granted) <= REQUESTS + 5 * 10
    assert sum(granted) < 4 * REQUESTS / 2


@pytest.mark.parametrize("fault", ["killed", "stopped"])
def test_a_node_counts_alone_while_redis_is_away(server, ledger_of, caplog, fault):
    caplog.set_level(logging.INFO, "mlxnode.supervisor")
    ledger = ledger_of(server.url, timeout=0.3).wait_until_reachable()
    for ticket in range(100):
        ledger.reserve(HOLDER, ticket, "key", "m", EACH)
    if fault == "killed":
        server.kill()
    else:
        server.signal(signal.SIGSTOP)
    alone = [ledger.reserve(HOLDER, 100 + i, "key", "m", EACH) for i in range(50)]
    assert not ledger.limits.is_reachable
    # It goes on from the last numbers of Redis; 5 requests a second return.
    assert alone[-1].requests is not None
    assert 150 <= alone[-1].requests.remaining <= 150 + 5 * 10
    returned = ledger.when_reachable()
    if fault == "killed":
        server.start()
    else:
        server.signal(signal.SIGCONT)
    assert returned.wait(WAIT)
    # What was granted alone is not released in Redis, which has not taken it.
    for ticket in range(100, 150):
        ledger.settle(HOLDER, ticket, 0)
    # Nor is what was taken before Redis lost its data.
    after = ledger.reserve(HOLDER, 200, "key", "m", EACH)
    assert after.refused is None and after.tokens is not None
    if fault == "killed":
        assert after.tokens.remaining == TOKENS - EACH
        ledger.reserve(HOLDER, 201, "key", "m", 10_000)
        ledger.settle(HOLDER, 0, 0)
        last = ledger.reserve(HOLDER, 202, "key", "m", 0).tokens
        assert last is not None and last.remaining < TOKENS - 10_000 + 700 * 5
    told = [record.message for record in caplog.records if "shared limits" in record.message]
    assert len(told) == 3, told
    assert "answers" in told[0] and "answers again" in told[2]
    assert "meanwhile, this node counts for itself" in told[1]


def test_a_node_refuses_by_configuration_while_redis_is_away(tmp_path, ledger_of):
    server = RedisServer(tmp_path)
    ledger = ledger_of(server.url, when_unreachable="refuse")
    refused = ledger.reserve(HOLDER, 1, "key", "m", EACH)
    assert (refused.refused, refused.retry_after) == ("unreachable", 1.0)
    returned = ledger.when_reachable()
    with server:
        assert returned.wait(WAIT)
        assert ledger.reserve(HOLDER, 1, "key", "m", EACH).refused is None


def test_a_socket_and_a_password_are_used_and_a_wrong_one_is_told(tmp_path, ledger_of, caplog):
    with RedisServer(tmp_path, "--requirepass", "sesame", is_socket=True) as server:
        wrong = ledger_of(f"unix://:barley@{server.socket}")
        wrong.reserve(HOLDER, 1, "key", "m", EACH)
        right = ledger_of(f"unix://:sesame@{server.socket}").wait_until_reachable()
        answer = right.reserve(HOLDER, 1, "key", "m", EACH)
        assert answer.requests is not None and answer.requests.remaining == REQUESTS - 1
        assert not wrong.limits.is_reachable
    assert "invalid username-password pair" in caplog.text
    assert "barley" not in caplog.text and "sesame" not in caplog.text


def test_tls_is_used_and_a_certificate_that_nobody_knows_is_told(tmp_path, ledger_of, caplog):
    pair, port = make_pair(tmp_path), free_port()
    tls = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    files = ["--tls-cert-file", str(pair.certificate), "--tls-key-file", str(pair.key)]
    url = f"rediss://127.0.0.1:{port}/0"
    with RedisServer(tmp_path, *tls, *files):
        ledger_of(url)
        deadline = time.monotonic() + WAIT
        while "certificate verify failed" not in caplog.text:
            assert time.monotonic() < deadline, caplog.text
            time.sleep(0.01)
        known = ledger_of(f"{url}?ssl_ca_certs={pair.certificate}").wait_until_reachable()
        answer = known.reserve(HOLDER, 1, "key", "m", EACH)
        assert answer.requests is not None and answer.requests.remaining == REQUESTS - 1


def test_doctor_says_whether_redis_can_be_used(tmp_path):
    def finding(user: str) -> Finding:
        url = f"redis://{user}127.0.0.1:{server.port}/0"
        settings = SharedLimitsConfig.model_validate({"redis": url})
        # On a thread of its own: the tests of browsers leave an event loop on this one.
        with ThreadPoolExecutor(1) as pool:
            [found] = pool.submit(check_shared_limits, settings).result()
        assert "sesame" not in found.text and str(server.port) in found.text
        return found

    with RedisServer(tmp_path, "--requirepass", "sesame") as server:
        assert finding(":sesame@").status == "ok"
        assert "password" in finding(":barley@").text and finding("").status == "fail"
    assert finding(":sesame@").status == "fail"


def test_names_in_redis_are_bounded_in_time_and_hold_no_key(server, ledger_of):
    import redis

    ledger_of(server.url).wait_until_reachable().reserve(HOLDER, 1, "key", "m", EACH)
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        names = sorted(client.keys())
        assert names == ["test:{key}:requests", "test:{key}:tokens", "test:{probe}:requests"]
        assert all(0 < client.ttl(name) <= 3600 + 60 for name in names)


def test_two_nodes_over_http_grant_one_limit_and_refuse_without_redis(tmp_path, server):
    config = NODE.format(key=API_KEY, url=server.url)
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    with NodeProcess(folders[0], config) as one, NodeProcess(folders[1], config) as other:
        one.wait_ready()
        other.wait_ready()
        answers = [embed(node) for _ in range(4) for node in (one, other)]
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) == 5 and statuses.count(429) == 3, statuses
        remaining = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
        assert remaining[:5] == ["4", "3", "2", "1", "0"]
        server.kill()
        refused = embed(one)
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert "their store does not answer" in refused.json()["error"]["message"]
        server.start()
        one.wait_for_log(r"(?s)cannot be used: Error.*answers again")
        assert embed(one).status_code == 200


def embed(node: NodeProcess) -> httpx.Response:
    return httpx.post(
        f"{node.url}/v1/embeddings",
        json={"model": "all-minilm-l6-v2", "input": "hello"},
        headers={"authorization": f"Bearer {API_KEY}"},
        timeout=WAIT,
    )
