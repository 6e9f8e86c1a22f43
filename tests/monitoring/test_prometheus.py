"""A real Prometheus scrapes a real node: every query of the board and every alert has data.

`promtool` checks the rules and the example configuration, and fires each alert.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
from monitoring.board import (
    FOLDER,
    RULES,
    board_queries,
    names,
    without_thresholds,
    without_variables,
)
from support import tiny
from support.node_process import NodeProcess
from support.prometheus import WAIT, Prometheus, promtool
from support.redis_server import RedisServer

# The limit is for a machine that is busy with other tests: all the waiting is in one fixture.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

KEY, POOR_KEY, ADMIN_KEY = "sk-monitoring", "sk-poor", "sk-admin-monitoring"
CONFIG = f"""
[api]
address = "127.0.0.1:0"
admin_key = "{ADMIN_KEY}"
[api.keys.team]
key = "{KEY}"
[api.keys.poor]
key = "{POOR_KEY}"
max_requests_per_minute = 1
[api.models.chat]
path = "chat"
type = "chat"
[api.models.embedding]
path = "embedding"
type = "embedding"
[api.models.gone]
path = "gone"
type = "chat"
[server]
workers = 2
[server.shared_limits]
redis = "REDIS"
"""
# The example of the documents, but for what a test has to choose.
EXAMPLE = (FOLDER / "prometheus.yml").read_text()
CHAT: dict[str, Any] = {"model": "chat", "temperature": 0, "max_tokens": 200}
REPEATED: dict[str, Any] = {
    "logit_bias": {"100": 100}
}  # one token again and again, which drafts foresee
LONG = "Nodes tell what they do. " * 8  # a prefix that is worth keeping
NUM_LINES = 20  # of a batch


class Traffic:
    """Requests of every kind, again and again, until the end of the block."""

    def __init__(self, node: NodeProcess):
        self._node = node
        self._ended = threading.Event()
        self.statuses: set[int] = set()
        self._thread = threading.Thread(target=self._run)
        # A connection for each request: any worker can get it.
        limits = httpx.Limits(max_keepalive_connections=0)
        headers = {"authorization": f"Bearer {KEY}"}
        self._client = httpx.Client(
            base_url=f"{node.url}/v1", headers=headers, limits=limits, timeout=WAIT
        )

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(WAIT)
        self._client.close()

    def post(self, path: str, key: str = KEY, **body: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return self._client.post(path, json=body, headers=headers)

    def ask(self, text: str, key: str = KEY, **options: object) -> int:
        messages = [{"role": "user", "content": text}]
        answer = self.post("chat/completions", key, **CHAT | options, messages=messages)
        self.statuses.add(answer.status_code)
        return answer.status_code

    def break_a_stream(self) -> None:
        """The engine dies in the middle of an answer; others are refused until it is back."""
        body = CHAT | {"stream": True, "max_tokens": 400, "ignore_eos": True}
        messages = [{"role": "user", "content": "Go on"}]
        with self._client.stream(
            "POST", "chat/completions", json=body | {"messages": messages}
        ) as answer:
            lines = answer.iter_lines()
            next(line for line in lines if '"content"' in line)
            os.kill(self._node.engine_pid(), signal.SIGKILL)
            assert any("error" in line for line in lines)

    def begin_batch(self, client: openai.OpenAI) -> str:
        """The id of a batch, for which the engine has time between other requests."""
        messages = [{"role": "user", "content": "Later"}]
        body: dict[str, object] = CHAT | {"ignore_eos": True, "messages": messages}
        url = "/v1/chat/completions"
        lines = [
            json.dumps({"custom_id": str(i), "method": "POST", "url": url, "body": body})
            for i in range(NUM_LINES)
        ]
        data = "\n".join(lines).encode()
        file = client.files.create(file=("later.jsonl", data), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint=url, completion_window="24h"
        )
        return batch.id

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            with ThreadPoolExecutor(3) as pool:
                pool.submit(self.ask, LONG, **REPEATED)
                pool.submit(self.ask, LONG, stream=True, **REPEATED)
                pool.submit(self.ask, "Hello", POOR_KEY, **REPEATED)
            self.ask("Hello", model="nothing")
            self.post("embeddings", model="embedding", input=["one", "two"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("monitoring")


@pytest.fixture(scope="module")
def node(folder) -> Iterator[NodeProcess]:
    tiny.make_chat_model(folder / "chat")
    tiny.make_embedding_model(folder / "embedding")
    with RedisServer(folder) as redis:
        config = CONFIG.replace("REDIS", redis.url)
        with NodeProcess(folder, config) as process:
            process.wait_ready()
            yield process


@pytest.fixture(scope="module")
def prometheus(node, folder) -> Iterator[Prometheus]:
    """It has seen the node at work, a restart of its engine, and the work after that."""
    (folder / "mlxnode-admin-key").write_text(ADMIN_KEY)
    (folder / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text())
    address = node.url.removeprefix("http://")
    targets = EXAMPLE.replace("127.0.0.1:8000", address).replace("mac-studio.local:8000", "")
    config = targets.replace("          - \n", "").replace("15s", "1s")
    with Prometheus(folder, config) as server, Traffic(node) as traffic:
        tokens = 'sum(mlxnode_generated_tokens_total{model="chat"})'
        server.wait_until(lambda: bool(server.query(tokens)), "no request was scraped")
        traffic.break_a_stream()
        restarts = 'mlxnode_process_restarts_total{process="engine"} > 0'
        server.wait_until(lambda: bool(server.query(restarts)), "no restart was scraped")
        seen = 'count(count_over_time(mlxnode_requests_total{outcome="failed"}[2m]) > 3)'
        server.wait_until(lambda: bool(server.query(seen)), "no failure was scraped")
        # The engine tells its figures again, and has had work since then.
        again = (
            "mlxnode_sequences_waiting and on () "
            "(sum(increase(mlxnode_engine_generated_tokens_total[5s])) > 0)"
        )
        server.wait_until(lambda: bool(server.query(again)), "nothing after the restart")
        drafts = "sum(increase(mlxnode_drafted_tokens_total[1m])) > 0"
        server.wait_until(lambda: bool(server.query(drafts)), "no draft was tried")
        with openai.OpenAI(base_url=f"{node.url}/v1", api_key=KEY, timeout=WAIT) as client:
            batches = [traffic.begin_batch(client)]

            def was_seen() -> bool:
                if is_complete(client, batches[-1]):  # between two scrapes
                    batches.append(traffic.begin_batch(client))
                return bool(server.query("max_over_time(mlxnode_sequences_background[2m]) > 0"))

            server.wait_until(was_seen, "no line of a batch was scraped")
            server.wait_until(lambda: is_complete(client, batches[-1]), "a batch did not end")
        yield server


def is_complete(client: openai.OpenAI, batch_id: str) -> bool:
    """True if each line of the batch has its answer."""
    batch = client.batches.retrieve(batch_id)
    assert batch.request_counts is not None and batch.request_counts.failed == 0
    return batch.status == "completed" and batch.request_counts.completed == NUM_LINES


def test_prometheus_reads_the_node_with_the_key_of_the_example(prometheus, node):
    [target] = prometheus.get("targets")["activeTargets"]
    assert target["health"] == "up" and target["lastError"] == ""
    assert target["labels"]["job"] == "mlxnode"
    assert prometheus.query('up{job="mlxnode"}')[0]["value"][1] == "1"


def test_prometheus_has_every_metric(prometheus):
    there = prometheus.get("label/__name__/values")
    assert {name for name in there if name.startswith("mlxnode_")} == names()


@pytest.mark.parametrize(("title", "query"), list(board_queries()))
def test_query_of_the_board_has_data(prometheus, title, query):
    found = prometheus.query(without_variables(query))
    assert found, title
    # A part of nothing is no number, as of a model that gets no requests.
    assert any(one["value"][1] != "NaN" for one in found), title


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_compares_what_the_node_tells(prometheus, rule):
    assert prometheus.query(without_thresholds(rule["expr"])), rule["expr"]


def test_alerts_fire_for_what_has_happened_alone(prometheus):
    prometheus.wait_until(
        lambda: "MlxnodeEngineRestarted" in firing(prometheus), "the restart fires no alert"
    )
    assert firing(prometheus) == {"MlxnodeEngineRestarted"}
    [group] = prometheus.get("rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} == {rule["alert"] for rule in RULES}
    assert {rule["health"] for rule in group["rules"]} == {"ok"}


def firing(prometheus: Prometheus) -> set[str]:
    alerts = prometheus.get("alerts")["alerts"]
    return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


def test_promtool_accepts_the_rules_and_the_configuration(tmp_path):
    assert "SUCCESS" in promtool("check", "rules", FOLDER / "alerts.yml", folder=tmp_path)
    for name in ("prometheus.yml", "alerts.yml"):
        (tmp_path / name).write_text((FOLDER / name).read_text())
    (tmp_path / "mlxnode-admin-key").touch()
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", folder=tmp_path)


def test_promtool_fires_each_alert(tmp_path):
    here = Path(__file__).parent
    assert "SUCCESS" in promtool("test", "rules", here / "alerts_test.yml", folder=here)
