"""The board and the alerts of docs/monitoring, as tests read them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mlxnode.server.metrics.families import COUNTED, STORED, TOLD

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
BOARD: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
# What Grafana puts in for its variables, with "All" chosen.
_VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "5m",
    "$instance": ".*",
    "$model": ".*",
    "$key": ".*",
}
_METRIC = re.compile(r"\bmlxnode_\w+")
_COMPARED = re.compile(r"\s+(?:==|!=|>=|<=|>|<)\s+[\d.]+(?=\s|$)")


_SUFFIXES = ("_bucket", "_count", "_sum")


def names() -> set[str]:
    """The names of all metrics, as queries may write them."""
    found = set()
    for family in (*COUNTED, *TOLD, *STORED):
        suffixes = _SUFFIXES if family.type == "histogram" else ("",)
        found |= {family.written + suffix for suffix in suffixes}
    return found


def board_queries() -> Iterator[tuple[str, str]]:
    """The title of the panel and the expression of each query, and those of the annotations."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for one in BOARD["annotations"]["list"]:
        yield one["name"], one["expr"]


def without_variables(expression: str) -> str:
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def without_thresholds(expression: str) -> str:
    """What a rule compares: it has data also while the rule does not fire."""
    return _COMPARED.sub("", expression)


def metrics_of(expression: str) -> set[str]:
    return set(_METRIC.findall(expression))
