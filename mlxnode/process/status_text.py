"""The figures of a node as text for people."""

from collections.abc import Sequence

from mlxnode.figures import (
    EngineFigures,
    ModelFigures,
    NodeFigures,
    ProcessFigures,
    RankFigures,
    TrafficFigures,
    TrafficRow,
)
from mlxnode.process.text_table import aligned

_PROCESS_HEADER = ("PROCESS", "PID", "STATE", "UP", "STARTS")
_RANK_HEADER = ("RANK", "HOST", "STATE", "MEMORY", "WHY")
_MODEL_HEADER = (
    "MODEL",
    "STATE",
    "WEIGHTS",
    "RUNNING",
    "WAITING",
    "PROMPT",
    "CACHED",
    "GENERATED",
    "PREFIXES",
)


def status_text(figures: NodeFigures) -> str:
    """Some aligned lines; sizes with their unit, tokens counted since the engine's start."""
    state = "draining" if figures.is_draining else f"up {duration_text(figures.uptime)}"
    lines = [
        f"mlxnode {figures.version} at {figures.address}, {state}, pid {figures.pid}, "
        f"at most {figures.descriptor_limit} open files a process",
        "",
        *aligned([_PROCESS_HEADER, *map(_process_row, figures.processes)], left=1),
        "",
        *_rank_lines(figures.ranks),
    ]
    if figures.engine is None:
        lines += ["The engine has reported no figures yet."]
    else:
        lines += aligned(_memory_rows(figures.engine), left=3)
        lines += [
            "",
            *aligned([_MODEL_HEADER, *map(_model_row, figures.engine.models)], left=2),
        ]
    if figures.traffic is not None:
        lines += ["", *_traffic_lines(figures.traffic, figures.num_requests)]
    if figures.failed_models:
        failed = [f"{id}: {reason}" for id, reason in figures.failed_models.items()]
        lines += ["", "FAILED MODELS", *failed]
    return "\n".join(lines)


def _process_row(process: ProcessFigures) -> Sequence[str]:
    pid = "-" if process.pid is None else str(process.pid)
    uptime = "-" if process.uptime is None else duration_text(process.uptime)
    return process.name, pid, process.state, uptime, str(process.starts)


def _rank_lines(ranks: Sequence[RankFigures]) -> list[str]:
    """The ranks of an engine on several machines, and an empty line; else nothing."""
    if not ranks:
        return []
    rows = [
        (str(rank.rank), rank.host, rank.state, size_text(rank.memory_bytes), rank.reason)
        for rank in ranks
    ]
    return [*aligned([_RANK_HEADER, *rows], left=3), ""]


def _memory_rows(engine: EngineFigures) -> list[Sequence[str]]:
    memory = engine.memory
    prefixes = sum(model.work.prefix_bytes for model in engine.distinct)
    return [
        ("MEMORY", "limit", size_text(memory.limit)),
        ("", "active", f"{size_text(memory.active)}, peak {size_text(memory.peak)}"),
        (
            "",
            "buffer cache",
            f"{size_text(memory.buffer_cache)} of {size_text(memory.buffer_cache_limit)}",
        ),
        ("", "footprint", size_text(memory.footprint)),
        (
            "",
            "KV caches",
            f"{size_text(memory.kv_claimed)} of {size_text(memory.kv_total)} claimed, "
            f"{size_text(prefixes)} for prefixes",
        ),
        ("", "wired", size_text(memory.wired_limit) if memory.wired_limit else "off"),
        ("", "pressure", memory.pressure),
    ]


def _model_row(model: ModelFigures) -> Sequence[str]:
    work = model.work
    counts = (
        work.num_running,
        work.num_waiting,
        work.prompt_tokens,
        work.cached_tokens,
        work.generated_tokens,
        work.prefix_entries,
    )
    weights = size_text(model.weight_bytes) if model.weight_bytes else "-"
    return (model.id, state_text(model), weights, *map(str, counts))


def _traffic_lines(traffic: TrafficFigures, num_requests: int) -> list[str]:
    """The rates of the moment, then the requests of each key that ended in the window."""
    rates = traffic.rates
    rows: list[Sequence[str]] = [
        ("TRAFFIC", "prompt", f"{rates.prompt:.0f} tokens/s"),
        ("", "generated", f"{rates.generated:.1f} tokens/s"),
        ("", "first token", first_token_text(traffic)),
        ("", "between tokens", inter_token_text(traffic)),
        ("", "in flight", f"{num_requests} requests"),
    ]
    lines = aligned(rows, left=3)
    if traffic.keys:
        header = (f"KEY, LAST {traffic.seconds} S", "REQUESTS", "PROMPT", "CACHED", "GENERATED")
        lines += ["", *aligned([header, *map(_key_row, traffic.keys)], left=1)]
    return lines


def _key_row(row: TrafficRow) -> Sequence[str]:
    counts = (row.requests, row.prompt_tokens, row.cached_tokens, row.completion_tokens)
    return (row.id, *map(str, counts))


def state_text(model: ModelFigures) -> str:
    """Whether the model is loaded, since when it is idle, and whether it stays."""
    text = model.state
    if model.state == "loaded" and model.idle_seconds is not None and model.idle_seconds >= 1:
        text += f", idle {duration_text(model.idle_seconds)}"
    return f"{text}, pinned" if model.is_pinned else text


def first_token_text(traffic: TrafficFigures) -> str:
    """The times to the first token, or that no text was generated."""
    median, p95 = traffic.first_token_median, traffic.first_token_p95
    if median is None or p95 is None:
        return f"no text in the last {traffic.seconds} s"
    return f"{median:.2f} s median, {p95:.2f} s p95"


def inter_token_text(traffic: TrafficFigures) -> str:
    """The times between two tokens, or that they are not known."""
    median, p95 = traffic.inter_token_median, traffic.inter_token_p95
    if median is None or p95 is None:
        return "-"
    return f"{1000 * median:.1f} ms median, {1000 * p95:.1f} ms p95"


def size_text(size: int) -> str:
    """Bytes with their unit."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def duration_text(seconds: float) -> str:
    """Seconds in the two largest units."""
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole} s" if minutes else f"{whole} s"
