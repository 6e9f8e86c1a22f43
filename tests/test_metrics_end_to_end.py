"""/metrics of a real node: exact over its workers, whatever happens to its processes."""

import json
import os
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from support import tiny
from support.metrics import OPENMETRICS, Scrape, scrape, scrape_until
from support.node_process import NodeProcess

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]
CONFIG = """
[api]
address = "127.0.0.1:0"
require_auth = false
[api.models.mine]
path = "{path}"
type = "chat"
[server]
workers = 2
[engine]
kernels = "ops"
"""
DRAINING = """[server]
drain_timeout = 0.1
request_log = "json"
request_log_file = "{log}"
"""
ROUTE = "/v1/chat/completions"
LONG = {
    "model": "mine",
    "messages": [{"role": "user", "content": "go on"}],
    "max_tokens": 60_000,
    "ignore_eos": True,
}
REQUESTS = "mlxnode_requests_total"


def ask(url: str, number: int) -> tuple[int, int]:
    """The status and the tokens of a request over a connection of its own, to any worker."""
    body = {
        "model": "mine" if number % 4 else "unknown",
        "messages": [{"role": "user", "content": f"number {number}"}],
        "max_tokens": 5,
    }
    if number % 2:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = httpx2.post(f"{url}{ROUTE}", json=body, timeout=60)
    told = re.findall(r'"completion_tokens":([0-9]+)', answer.text)
    return answer.status_code, int(told[-1]) if told else 0


def ask_many(url: str, number: int) -> tuple[int, int]:
    """The number of answers, and of their tokens. A quarter of the requests are refused."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ask(url, n), range(number)))
    statuses = [status for status, _ in answers]
    assert statuses.count(404) == number // 4
    return statuses.count(200), sum(tokens for _, tokens in answers)


def is_counted(number: int, refused: int):
    def check(found: Scrape) -> bool:
        done = found.sum(REQUESTS, route=ROUTE, model="mine", status="200", outcome="done")
        missing = found.sum(REQUESTS, route=ROUTE, model="", status="404", outcome="refused")
        return (done, missing) == (number, refused)

    return check


def test_counts_of_a_node_are_exact_and_outlive_its_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    model = tiny.make_chat_model(tmp_path / "model")
    with NodeProcess(tmp_path, CONFIG.format(path=model)) as node:
        node.wait_ready()
        number, tokens = ask_many(node.url, 40)
        found = scrape_until(node.url, is_counted(number, 10))
        assert found.sum("mlxnode_request_duration_seconds_count", model="mine") == number
        assert found.sum("mlxnode_generated_tokens_total", key="anonymous") == tokens
        assert found.sum("mlxnode_time_to_first_token_seconds_count") == number
        assert found.sum("mlxnode_inter_token_latency_seconds_count") <= tokens - number
        assert found.sum("mlxnode_figures_up") == 1
        for pid in node.worker_pids():
            os.kill(pid, signal.SIGKILL)
        found = scrape_until(
            node.url,
            lambda found: found.sum("mlxnode_process_restarts_total") == 2,
        )
        assert is_counted(number, 10)(found)
        again, more = ask_many(node.url, 20)
        found = scrape_until(node.url, is_counted(number + again, 15))
        assert found.sum("mlxnode_generated_tokens_total") == tokens + more
        os.kill(node.engine_pid(), signal.SIGKILL)
        found = scrape_until(
            node.url,
            lambda found: (
                found.sum("mlxnode_process_restarts_total", process="engine") == 1
                and found.sum("mlxnode_model_state", model="mine", state="loaded") == 1
            ),
        )
        assert is_counted(number + again, 15)(found)
        # A counter that begins anew is a reset to Prometheus: it is never below zero.
        assert found.sum("mlxnode_steps_total") == 0
        accept = {"accept": OPENMETRICS}
        assert is_counted(number + again, 15)(scrape(node.url, headers=accept))
        folders = list((tmp_path / "cache" / "private").glob("*"))
        files = [file.name for folder in folders for file in folder.glob("*.db")]
        assert sorted(files) == [
            f"{kind}_{i}.db" for kind in ("counter", "histogram") for i in (0, 1)
        ]
    assert not list((tmp_path / "cache" / "private").glob("*"))


def drained(url: str) -> bytes:
    """All that a stream of its own sends, until the node ends it."""
    body = LONG | {"stream": True}
    with httpx2.stream("POST", f"{url}{ROUTE}", json=body, timeout=60) as answer:
        return b"".join(answer.iter_raw())


def tokens_of(url: str) -> list[int]:
    """The tokens of the requests in flight, as far as their workers have written them."""
    requests = httpx2.get(f"{url}/v1/requests", timeout=60).json()["data"]
    return sorted(request["completion_tokens"] for request in requests)


def test_a_drain_ends_a_stream_with_an_error_and_cuts_one_that_nobody_reads(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    model = tiny.make_chat_model(tmp_path / "model", context=65_536)
    log = tmp_path / "requests.jsonl"
    config = CONFIG.format(path=model).replace("[server]\n", DRAINING.format(log=log))
    with NodeProcess(tmp_path, config) as node, ThreadPoolExecutor(1) as pool:
        node.wait_ready()
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            address, _, port = node.url.removeprefix("http://").partition(":")
            deaf.connect((address, int(port)))
            body = json.dumps(LONG | {"stream": True, "logprobs": True, "top_logprobs": 20})
            head = f"POST {ROUTE} HTTP/1.1\r\nHost: {address}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            deaf.sendall(f"{head}{body}".encode())
            reading = pool.submit(drained, node.url)
            paused = threading.Event()
            while not paused.wait(0.1):
                tokens = tokens_of(node.url)
                # The engine computes both at once: the stream of one of them is full.
                if len(tokens) == 2 and tokens[1] - tokens[0] > 500:
                    break
            node.process.terminate()
            assert b"shutting down" in reading.result(60)
            assert node.process.wait(60) == 0
        assert "Traceback" not in "".join(node.log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    ends = [(line["outcome"], line["status"], line["error"]) for line in lines]
    ends = [end for line, end in zip(lines, ends, strict=True) if line["path"] == ROUTE]
    assert sorted(ends, key=str) == [
        ("cut", 200, None),
        ("failed", 200, "server_is_overloaded"),
    ]
