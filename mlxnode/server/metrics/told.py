"""The figures of the node as families."""

from collections.abc import Iterable, Iterator
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from mlxnode.figures import (
    EngineFigures,
    MemoryFigures,
    ModelFigures,
    ModelState,
    NodeFigures,
    PressureStage,
    ProcessState,
    RunnerFigures,
)
from mlxnode.server.metrics import families
from mlxnode.server.metrics.families import Family

# The values of a family: by the values of its labels.
Samples = Iterable[tuple[tuple[str, ...], float]]

_MEMORY: dict[Family, str] = {
    families.KV_LIMIT: "kv_total",
    families.KV_CLAIMED: "kv_claimed",
    families.MEMORY_LIMIT: "limit",
    families.MEMORY_ACTIVE: "active",
    families.MEMORY_PEAK: "peak",
    families.BUFFER_CACHE: "buffer_cache",
    families.BUFFER_CACHE_LIMIT: "buffer_cache_limit",
    families.WIRED_LIMIT: "wired_limit",
    families.FOOTPRINT: "footprint",
}
_WORK: dict[Family, str] = {
    families.RUNNING: "num_running",
    families.WAITING: "num_waiting",
    families.BACKGROUND: "num_background",
    families.STEPS: "steps",
    families.STEP_ROWS: "step_rows",
    families.ENGINE_PROMPT: "prompt_tokens",
    families.ENGINE_CACHED: "cached_tokens",
    families.ENGINE_GENERATED: "generated_tokens",
    families.DRAFTED: "drafted_tokens",
    families.ACCEPTED: "accepted_tokens",
    families.PREFIX_BYTES: "prefix_bytes",
    families.PREFIX_ENTRIES: "prefix_entries",
}


class ToldFamilies(Collector):
    """The families of ``families.TOLD``; ``figures`` None: the supervisor told none."""

    def __init__(self, figures: NodeFigures | None):
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        yield _family(families.FIGURES_UP, [((), figures is not None)])
        if figures is not None:
            yield from _node(figures)
            yield from _processes(figures)
            if figures.engine is not None:
                yield from _models(figures.engine)
                yield from _memory(figures.engine.memory)


def _node(figures: NodeFigures) -> Iterator[Metric]:
    yield InfoMetricFamily(
        families.BUILD.name, families.BUILD.help, {"version": figures.version}
    )
    yield _family(families.UPTIME, [((), figures.uptime)])
    yield _family(families.DRAINING, [((), figures.is_draining)])
    if figures.shared_limits is not None:
        yield _family(families.SHARED_LIMITS, [((), figures.shared_limits)])
    yield _family(families.DESCRIPTOR_LIMIT, [((), figures.descriptor_limit)])
    yield _family(families.IN_FLIGHT, [((), figures.num_requests)])
    models = [] if figures.engine is None else [model.id for model in figures.engine.models]
    failed = dict.fromkeys(models, 0.0) | dict.fromkeys(figures.failed_models, 1.0)
    yield _family(families.MODEL_FAILED, [((id,), value) for id, value in failed.items()])


def _processes(figures: NodeFigures) -> Iterator[Metric]:
    processes = figures.processes
    states = [((one.name,), one.state) for one in processes]
    yield _family(families.PROCESS_STATE, _one_of(states, get_args(ProcessState)))
    restarts = [((one.name,), max(one.starts - 1, 0)) for one in processes]
    yield _family(families.PROCESS_RESTARTS, restarts)
    uptimes = [((one.name,), one.uptime) for one in processes if one.uptime is not None]
    yield _family(families.PROCESS_UPTIME, uptimes)


def _models(engine: EngineFigures) -> Iterator[Metric]:
    models: list[ModelFigures] = engine.models
    states = [((one.id,), one.state) for one in models]
    yield _family(families.MODEL_STATE, _one_of(states, get_args(ModelState)))
    yield _family(families.MODEL_PINNED, [((one.id,), one.is_pinned) for one in models])
    yield _family(families.MODEL_LOADS, [((one.id,), one.num_loads) for one in models])
    idle = [((m.id,), m.idle_seconds) for m in models if m.idle_seconds is not None]
    yield _family(families.MODEL_IDLE, idle)
    # Ids with the same weights have them, and their work, once: sums over models are right.
    weights: dict[str, int] = {}
    for one in models:
        id = one.same_as or one.id  # which may be unloaded, while the other is not
        weights[id] = max(weights.get(id, 0), one.weight_bytes)
    yield _family(families.MODEL_WEIGHTS, [((id,), size) for id, size in weights.items()])
    for family, name in _WORK.items():
        yield _family(family, [((one.id,), _of(one.work, name)) for one in engine.distinct])


def _memory(memory: MemoryFigures) -> Iterator[Metric]:
    for family, name in _MEMORY.items():
        yield _family(family, [((), _of(memory, name))])
    stages = _one_of([((), memory.pressure)], get_args(PressureStage))
    yield _family(families.PRESSURE, stages)


def _of(figures: RunnerFigures | MemoryFigures, name: str) -> float:
    return getattr(figures, name)


def _one_of(chosen: list[tuple[tuple[str, ...], str]], values: tuple[str, ...]) -> Samples:
    """One sample for each of ``values``: 1 for the chosen one, 0 for the others."""
    return [((*labels, value), value == one) for labels, one in chosen for value in values]


def _family(family: Family, samples: Samples) -> Metric:
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    metric = kinds[family.type](family.name, family.help, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, float(value))
    return metric
