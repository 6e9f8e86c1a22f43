"""The loads of the benchmark over HTTP. A load gives the figures of one server in one round.

A load is a function that gives each figure its goal; ``LOADS`` of its file names the load. May
import the other files of ``benchmarks``, but not ``serving``, ``models`` and ``report``.
"""

from workloads import caches, embeddings, http_overhead, latency, streams
from workloads.bench import Load, NodeLoad, Stage

# The loads of each stage. A name may be in several stages, where the goals are not the same.
LOADS: dict[Stage, dict[str, Load | NodeLoad]] = {
    "cut": {**streams.LOADS, **latency.LOADS, **http_overhead.LOADS},
    "whole": {**streams.WHOLE_LOADS},
    "embeddings": {**embeddings.LOADS},
    "hybrid": {**caches.LOADS},
    "windows": {**caches.LOADS},
}
