"""Requests in flight of two workers: either lists them all, and cancels those of the other."""

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
from support import tiny
from support.node_process import NodeProcess

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

WAIT = 60.0  # seconds
CONFIG = """
[api]
address = "127.0.0.1:0"
admin_key = "sk-admin-key"
[api.keys.alice]
key = "sk-alice"
[api.keys.bob]
key = "sk-bob"
[api.models.tiny]
path = "model"
type = "chat"
[server]
workers = 2
[engine]
kernels = "ops"
"""
LONG = {"model": "tiny", "max_tokens": 60_000, "extra_body": {"ignore_eos": True}}
MOST = 16  # requests until both workers have some


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[NodeProcess]:
    folder: Path = tmp_path_factory.mktemp("node")
    tiny.make_chat_model(folder / "model", context=65_536)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLXNODE_CACHE", str(folder / "cache"))
        with NodeProcess(folder, CONFIG) as started:
            started.wait_ready()
            yield started


@pytest.fixture
def admin(node) -> Iterator[httpx.Client]:
    headers = {"authorization": "Bearer sk-admin-key"}
    with httpx.Client(base_url=node.url, headers=headers, timeout=WAIT) as client:
        yield client


def client_of(node: NodeProcess, key: str) -> openai.OpenAI:
    """A client with connections of its own, so that any worker can get its request."""
    return openai.OpenAI(base_url=f"{node.url}/v1", api_key=key, max_retries=0, timeout=WAIT)


def watch_until(client: httpx.Client, is_wanted: Callable[[dict[str, Any]], bool]) -> dict:
    """The first figures that are as wanted."""
    with client.stream("GET", "/v1/figures") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: ") and is_wanted(figures := json.loads(line[6:])):
                return figures
    raise AssertionError("the stream ended")


def ask(node: NodeProcess, key: str, *, is_stream: bool) -> str:
    """Ask for a long answer; returns the code of the error that ends it."""
    with client_of(node, key) as client:
        try:
            answer: Any = client.chat.completions.create(
                messages=[{"role": "user", "content": "hi"}], stream=is_stream, **LONG
            )
            for _ in answer:
                continue
        except openai.APIError as error:
            return f"{error.code} {getattr(error, 'status_code', 200)}"
    return "the answer ended"


@contextlib.contextmanager
def long_requests(node: NodeProcess, admin: httpx.Client) -> Iterator[dict[Future[str], dict]]:
    """Requests of both keys, in both workers, which generate: with their figures."""
    with ThreadPoolExecutor(MOST) as threads:
        found: dict[Future[str], dict] = {}
        for number in range(1, MOST + 1):
            key = "sk-bob" if number % 2 else "sk-alice"
            asked = threads.submit(ask, node, key, is_stream=number % 4 < 2)
            running = watch_until(
                admin,
                lambda seen, number=number: (
                    [request["state"] for request in seen["requests"]]
                    == ["generating"] * number
                ),
            )["requests"]
            known = {request["id"] for request in found.values()}
            [found[asked]] = [request for request in running if request["id"] not in known]
            workers = [request["id"].partition("-")[0] for request in found.values()]
            if len(set(workers)) == 2 and number >= 4:
                break
        try:
            yield found
        finally:
            for request in found.values():
                admin.post(f"/v1/requests/{request['id']}/cancel")


def test_requests_are_seen_and_cancelled_whatever_worker_has_them(node, admin):
    with long_requests(node, admin) as found:
        pids = {str(pid) for pid in node.worker_pids()}
        assert {request["id"].partition("-")[0] for request in found.values()} == pids
        assert {request["key"] for request in found.values()} == {"alice", "bob"}
        alice = {"authorization": "Bearer sk-alice"}
        seen = admin.get("/v1/requests", headers=alice).json()["data"]
        own = {request["id"] for request in found.values() if request["key"] == "alice"}
        assert {request["id"] for request in seen} == own
        for asked, request in found.items():
            url = f"/v1/requests/{request['id']}/cancel"
            if request["key"] == "bob":
                assert admin.post(url, headers=alice).status_code == 404
            answer = admin.post(url)
            assert answer.status_code == 200 and answer.json()["status"] == "cancelling"
            status = 200 if request["is_stream"] else 499
            assert asked.result(WAIT) == f"request_cancelled {status}"
    figures = watch_until(admin, lambda seen: seen["now"]["in_flight"] == 0)
    assert figures["requests"] == [] and figures["sees_all"]
    used = {row["id"]: row for row in figures["keys"]}
    assert used["alice"]["completion_tokens"] > 0 and used["bob"]["completion_tokens"] > 0
    assert figures["latency"]["inter_token_median"] > 0
    # The engine has nothing to do any more, long before the answers would have been complete.
    watch_until(admin, lambda seen: seen["now"]["running"] == seen["now"]["waiting"] == 0)
    again = admin.post(f"/v1/requests/{next(iter(found.values()))['id']}/cancel")
    assert again.status_code == 404


def test_the_history_has_the_moments_before_the_first_event(node, admin):
    figures = watch_until(admin, lambda seen: seen["uptime"] > 3)
    once = admin.get("/v1/figures", headers={"accept": "application/json"}).json()
    assert figures["history"] is None or len(figures["history"]["series"]["running"]) >= 3
    series = once["history"]["series"]
    assert {len(numbers) for numbers in series.values()} == {len(series["running"])}
    assert 3 <= len(series["running"]) <= 120
    assert series["memory"][-1] == once["now"]["memory"] > 0
