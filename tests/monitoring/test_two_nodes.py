"""A real Prometheus scrapes two real nodes: the board sums them, alerts tell them apart."""

import re
from collections.abc import Iterator

import httpx2 as httpx
import pytest
from monitoring.board import FOLDER, PANELS, RULES, without_thresholds, without_variables
from support.prometheus import WAIT, Prometheus
from support.replicas import KEY, MODEL, Replica, two_replicas

pytestmark = [pytest.mark.clients, pytest.mark.timeout(200)]

ASKED = (3, 5)  # requests to each node
CHATS = 'mlxnode_requests_total{route="/v1/chat/completions"}'
EXAMPLE = (FOLDER / "prometheus.yml").read_text()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[list[Replica]]:
    with two_replicas(tmp_path_factory.mktemp("nodes")) as both:
        yield both


@pytest.fixture(scope="module")
def prometheus(nodes, tmp_path_factory) -> Iterator[Prometheus]:
    """It has seen requests to both nodes, with the example's two targets."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "mlxnode-admin-key").write_text("sk-not-needed")
    (folder / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text())
    config = EXAMPLE.replace("15s", "1s").replace("127.0.0.1:8000", nodes[0].address)
    config = config.replace("mac-studio.local:8000", nodes[1].address)
    with Prometheus(folder, config) as server:
        up = 'up{job="mlxnode"} == 1'
        server.wait_until(lambda: len(server.query(up)) == 2, "a node is not scraped")
        for node, count in zip(nodes, ASKED, strict=True):
            for _ in range(count):
                ask(node)
        server.wait_until(lambda: value(server, f"sum({CHATS})") == sum(ASKED), "no requests")
        rates = "sum by (instance) (rate(mlxnode_requests_total[10m]))"  # of two scrapes
        server.wait_until(lambda: len(server.query(rates)) == 2, "no second scrape")
        yield server


def ask(node: Replica) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    headers = {"authorization": f"Bearer {KEY}"}
    url = f"{node.process.url}/v1/chat/completions"
    httpx.post(url, json=body, headers=headers, timeout=WAIT).raise_for_status()


def value(server: Prometheus, expression: str) -> float:
    """The one number that ``expression`` is; 0 if it has no data."""
    found = server.query(expression)
    return float(found[0]["value"][1]) if found else 0.0


def test_board_counts_and_sums_both_nodes(prometheus, nodes):
    queries = {
        panel["title"]: without_variables(panel["targets"][0]["expr"]) for panel in PANELS
    }
    assert value(prometheus, queries["Nodes"]) == 2
    limits = [
        value(prometheus, f'sum(mlxnode_kv_cache_limit_bytes{{instance="{node.address}"}})')
        for node in nodes
    ]
    assert all(limits) and value(prometheus, queries["KV memory"]) == sum(limits)
    for node, count in zip(nodes, ASKED, strict=True):
        own = f'sum({CHATS[:-1]}, instance="{node.address}"}})'
        assert value(prometheus, own) == count


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_no_two_curves_have_the_same_name(prometheus, panel):
    for target in panel["targets"]:
        found = prometheus.query(without_variables(target["expr"]))
        if panel["type"] == "stat":
            assert len(found) <= 1, "a node of its own, not the sum"
        elif panel["type"] == "timeseries":
            labels = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            curves = [tuple(one["metric"].get(label) for label in labels) for one in found]
            assert len(set(curves)) == len(curves), target["expr"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_are_of_one_node(prometheus, nodes, rule):
    found = prometheus.query(without_thresholds(rule["expr"]))
    told = {one["metric"].get("instance") for one in found}
    assert told <= {node.address for node in nodes}
    if rule["alert"] in {"MlxnodeDown", "MlxnodeServerErrors", "MlxnodeEngineRestarted"}:
        assert len(told) == 2
