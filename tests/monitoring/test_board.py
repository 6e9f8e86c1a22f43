"""The board and the alerts fit together with the metrics and with what the documents say."""

import itertools
import re
from pathlib import Path

import pytest
import yaml
from monitoring.board import (
    BOARD,
    FOLDER,
    PANELS,
    RULES,
    board_queries,
    metrics_of,
    names,
    without_thresholds,
    without_variables,
)

from mlxnode.server.metrics.families import COUNTED, STORED, TOLD

DOCUMENT = FOLDER.parent / "monitoring.md"
# Grafana's names of units that the board uses.
UNITS = {"short", "reqps", "ops", "s", "bytes", "percentunit"}
KINDS = {"timeseries", "stat", "table"}
WIDTH = 24  # columns


def test_board_has_what_grafana_asks_for():
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(BOARD)
    assert BOARD["id"] is None  # Grafana gives one when it imports the board
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "instance", "model", "key"]
    assert variables.pop("datasource")["query"] == "prometheus"
    for one in variables.values():
        assert one["includeAll"] and one["multi"] and one["allValue"] == ".*"
        assert metrics_of(one["definition"]) <= names()


def test_panels_have_ids_of_their_own_and_rows_stand_above_them():
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert BOARD["panels"][0]["type"] == "row"
    titles = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert len(set(titles)) == len(titles)


def test_panels_do_not_overlap():
    cells: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["w"] > 0 and at["h"] > 0 and 0 <= at["x"] <= WIDTH - at["w"]
        columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        own = set(itertools.product(columns, rows))
        assert not own & cells, panel["title"]
        cells |= own


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_is_readable(panel):
    assert panel["type"] in KINDS
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
        assert labels <= kept, "the legend names a label that the query drops"


@pytest.mark.parametrize(("title", "query"), list(board_queries()))
def test_query_is_of_the_chosen_nodes_and_of_metrics_that_exist(title, query):
    assert metrics_of(query) and metrics_of(query) <= names()
    for selector in re.findall(r"mlxnode_\w+(\{[^}]*\})?", query):
        assert 'instance=~"$instance"' in selector
    assert "$" not in without_variables(query)


def test_board_shows_every_metric_or_the_document_says_what_it_is_for():
    shown = set().union(*(metrics_of(query) for _, query in board_queries()))
    families = {family.name for family in (*COUNTED, *TOLD, *STORED)}
    missing = {name for name in families if not any(one.startswith(name) for one in shown)}
    assert missing == {
        "mlxnode_shared_limits_reachable",  # an alert
        "mlxnode_figures_up",  # an alert
        "mlxnode_descriptor_limit",  # never changes
        "mlxnode_memory_wired_limit_bytes",  # never changes
        "mlxnode_model_pinned",  # changes only when somebody says so
        "mlxnode_model_idle_seconds",  # for those who unload models
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_says_what_happened_and_uses_metrics_that_exist(rule):
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert "$labels.instance" in rule["annotations"]["summary"]
    assert metrics_of(rule["expr"]) <= names()
    assert without_thresholds(rule["expr"]) != rule["expr"]
    assert f"`{rule['alert']}`" in DOCUMENT.read_text()


def test_each_alert_is_fired_by_a_test():
    file = yaml.safe_load((Path(__file__).parent / "alerts_test.yml").read_text())
    fired = {
        case["alertname"]
        for test in file["tests"]
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in RULES}
    assert len(RULES) == len(fired)
