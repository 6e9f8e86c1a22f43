"""The loads of the benchmark over HTTP. A load gives the figures of one server in one round.

A load is a function that gives each figure its goal; ``LOADS`` of its file names the load. May
import the other files of ``benchmarks``, but not ``serving`` and ``report``.
"""

from workloads import embeddings, http_overhead, latency, streams
from workloads.bench import Load, NodeLoad

LOADS: dict[str, Load | NodeLoad] = {
    **streams.LOADS,
    **latency.LOADS,
    **http_overhead.LOADS,
    **embeddings.LOADS,
}
