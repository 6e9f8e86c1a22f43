"""Reads /metrics as Prometheus does."""

import threading
from collections.abc import Callable
from typing import Any

import httpx2
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text"


class Scrape:
    """One answer, by family and by sample."""

    def __init__(self, text: str, *, is_openmetrics: bool = False):
        parse = (
            openmetrics.text_string_to_metric_families
            if is_openmetrics
            else text_string_to_metric_families
        )
        self.text = text
        self.families: dict[str, Metric] = {family.name: family for family in parse(text)}
        self._samples = [one for family in self.families.values() for one in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples of ``name`` that have ``labels``; 0 of none."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and sample.labels.items() >= labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        """The values of ``label`` in the samples of ``name``."""
        return {s.labels[label] for s in self._samples if s.name == name}


def scrape(url: str, **options: Any) -> Scrape:
    """Read ``url``/metrics."""
    answer = httpx2.get(f"{url}/metrics", timeout=60, **options)
    assert answer.status_code == 200, answer.text
    is_openmetrics = answer.headers["content-type"].startswith(OPENMETRICS)
    return Scrape(answer.text, is_openmetrics=is_openmetrics)


def scrape_until(
    url: str, condition: Callable[[Scrape], bool], num_tries: int = 150, **options: Any
) -> Scrape:
    """The first scrape that fulfils ``condition``; an answer may be a second old."""
    paused = threading.Event()
    for _ in range(num_tries):
        if condition(found := scrape(url, **options)):
            return found
        paused.wait(0.2)
    raise AssertionError(found.text)
