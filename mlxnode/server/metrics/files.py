"""The files of all workers: which of them can be read, and what they add up to."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_DAMAGED = (OSError, RuntimeError, ValueError, struct.error)


def is_whole(file: Path) -> bool:
    """True if all of ``file`` can be read."""
    try:
        for key, *_ in MmapedDict.read_all_values_from_file(str(file)):
            json.loads(key)
    except _DAMAGED:
        return False
    return True


class CountedFamilies(Collector):
    """The sums of the files in ``folder``, whoever wrote them; damaged ones are left out."""

    def __init__(self, folder: Path):
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        files = sorted(self._folder.glob("*.db"))
        try:
            yield from MultiProcessCollector.merge(map(str, files))
        except _DAMAGED:
            whole = [str(file) for file in files if is_whole(file)]
            yield from MultiProcessCollector.merge(whole)
