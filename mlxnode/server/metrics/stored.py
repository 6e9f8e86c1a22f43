"""What is in the store of files and batches, as families."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mlxnode.batches.totals import read_totals
from mlxnode.server.metrics import families


class StoredFamilies(Collector):
    """The families of ``families.STORED``; none while the store cannot be read."""

    def __init__(self, folder: Path):
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        try:
            totals = read_totals(self._folder)
        except (OSError, sqlite3.Error):
            return
        batches = families.BATCHES
        by_status = GaugeMetricFamily(batches.name, batches.help, labels=batches.labels)
        for status, number in totals.num_open.items():
            by_status.add_metric([status], number)
        yield by_status
        for family, value in (
            (families.BATCH_REQUESTS, totals.num_left),
            (families.STORED_BYTES, totals.stored_bytes),
        ):
            yield GaugeMetricFamily(family.name, family.help, value)
