"""What workers count in their files, and what the files of all add up to."""

import pickle
from itertools import product

import pytest
from support.metrics import Scrape

from mlxnode.server.metrics.counts import Counts
from mlxnode.server.metrics.ended import Ended
from mlxnode.server.metrics.rendering import Order, render

CHAT = "/v1/chat/completions"
DONE = Ended(
    route=CHAT,
    method="POST",
    status=200,
    outcome="done",
    model="m",
    key="k",
    error=None,
    seconds=2.0,
    asked=0.25,
    queued=0.5,
    computed=0.125,
    first_token=1.0,
    tokens=(100, 60, 7),
    num_keep_alives=3,
)
NOWHERE = Ended(
    *(None, None, 404, "refused", None, None, "unknown_url", 0.0),
    *(None, None, None, None, None),
)


def scraped(folder) -> Scrape:
    return Scrape(render(Order(folder, None, "text", is_compressed=False)).decode())


def test_files_of_two_workers_add_up(tmp_path):
    for index in range(2):
        counts = Counts(tmp_path, index)
        counts.end(DONE)
        counts.end(NOWHERE)
        counts.inter_token("m")(0.02)
    found = scraped(tmp_path)
    done = {"route": CHAT, "method": "POST", "status": "200", "outcome": "done"}
    assert found.sum("mlxnode_requests_total", **done, model="m", key="k") == 2
    other = {"route": "other", "method": "other", "status": "404", "outcome": "refused"}
    assert found.sum("mlxnode_requests_total", **other, model="", key="") == 2
    assert found.sum("mlxnode_refusals_total", reason="unknown_url") == 2
    assert found.sum("mlxnode_refusals_total") == 2
    assert found.sum("mlxnode_keep_alives_total") == 6
    sums = {
        "request_duration_seconds": 4.0,
        "preparation_seconds": 0.5,
        "queue_seconds": 1.0,
        "prefill_seconds": 0.25,
        "time_to_first_token_seconds": 2.0,
        "inter_token_latency_seconds": 0.04,
        "request_prompt_tokens": 200,
        "request_generated_tokens": 14,
        "cached_prefix_tokens": 120,
        "cached_prefix_ratio": 1.2,
    }
    for name, value in sums.items():
        assert found.sum(f"mlxnode_{name}_sum", model="m") == pytest.approx(value)
        assert found.sum(f"mlxnode_{name}_count", model="m") == 2
        assert found.sum(f"mlxnode_{name}_bucket", model="m", le="+Inf") == 2
    tokens = {"prompt": 200, "cached": 120, "generated": 14}
    for name, value in tokens.items():
        assert found.sum(f"mlxnode_{name}_tokens_total", model="m", key="k") == value
    assert found.sum("mlxnode_figures_up") == 0


def test_a_worker_goes_on_in_the_files_of_the_last_one(tmp_path):
    for _ in range(20):
        Counts(tmp_path, 3).end(DONE)
    assert scraped(tmp_path).sum("mlxnode_requests_total") == 20
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "counter_3.db",
        "histogram_3.db",
    ]


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, b"\x00\x10\x00\x00" + b"\xff" * 60])
def test_a_damaged_file_costs_its_own_counts_alone(tmp_path, damage, caplog):
    for index in range(2):
        Counts(tmp_path, index).end(DONE)
    file = tmp_path / "counter_0.db"
    file.write_bytes(damage)
    assert scraped(tmp_path).sum("mlxnode_requests_total") == 1
    assert scraped(tmp_path).sum("mlxnode_queue_seconds_count") == 2
    counts = Counts(tmp_path, 0)
    assert "begin anew" in caplog.text
    counts.end(DONE)
    assert scraped(tmp_path).sum("mlxnode_requests_total") == 2


def test_label_sets_are_bounded_and_their_files_never_grow(tmp_path):
    counts = Counts(tmp_path, 0)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    pairs = list(product(range(80), range(50)))
    for model, key in pairs:
        name = f"organisation/a-model-with-a-rather-long-name-{model:03}"
        counts.end(DONE._replace(model=name, key=f"key-of-a-team-{key}", error=f"e{key}"))
        counts.inter_token(name)(0.01)
    found = scraped(tmp_path)
    assert found.sum("mlxnode_requests_total") == len(pairs)
    assert found.sum("mlxnode_requests_total", model="other", key="other") == len(pairs) - 3000
    assert found.sum("mlxnode_prompt_tokens_total", model="other", key="other") > 0
    assert found.sum("mlxnode_queue_seconds_count", model="other") == 20 * 50
    assert {file.name: file.stat().st_size for file in tmp_path.iterdir()} == sizes


def test_counts_without_room_are_an_error_at_once(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Counts(tmp_path / "missing", 0)


def test_a_request_without_tokens_counts_none(tmp_path):
    counts = Counts(tmp_path, 0)
    counts.end(DONE._replace(tokens=None, asked=None, queued=None, first_token=None))
    counts.end(DONE._replace(status=None, outcome="left"))
    found = scraped(tmp_path)
    assert found.sum("mlxnode_requests_total", status="none", outcome="left") == 1
    assert found.sum("mlxnode_queue_seconds_count") == 1
    assert found.sum("mlxnode_prompt_tokens_total") == 100


def test_orders_reach_the_process_as_they_are(tmp_path):
    order = Order(tmp_path, None, "openmetrics", is_compressed=True)
    assert pickle.loads(pickle.dumps(order)) == order
