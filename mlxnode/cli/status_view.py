"""The figures of a node as a screen that is drawn again each second."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mlxnode.cli.terminal import Column, table
from mlxnode.figures import EngineFigures, NodeFigures, RankFigures, TrafficFigures
from mlxnode.process.status_text import (
    duration_text,
    first_token_text,
    inter_token_text,
    size_text,
    state_text,
)

_BAR = 24  # characters, at most
_STATES = {"ready": "green", "starting": "yellow", "not running": "red"}


def status_view(figures: NodeFigures, width: int, note: str = "") -> RenderableType:
    """All figures, for a terminal of ``width`` characters; ``note`` is the last line."""
    state = "draining" if figures.is_draining else f"up {duration_text(figures.uptime)}"
    parts: list[RenderableType] = [
        Text(f"mlxnode {figures.version} at {figures.address}, {state}", style="bold")
    ]
    if figures.traffic is not None:
        parts += ["", _now(figures.traffic, figures.engine, figures.num_requests)]
    if figures.engine is not None:
        parts += [
            "",
            _memory(figures.engine, width),
            "",
            _models(figures, figures.engine, width),
        ]
    else:
        parts += ["", "The engine has reported no figures yet."]
    if figures.traffic is not None and figures.traffic.keys:
        parts += ["", _keys(figures.traffic, width)]
    parts += ["", _processes(figures)]
    parts += [_rank(rank) for rank in figures.ranks]
    parts += [
        Text(f"{id} FAILED: {reason}", style="red")
        for id, reason in figures.failed_models.items()
    ]
    if note:
        parts += ["", Text(note, style="dim")]
    return Group(*parts)


def _pairs(rows: Iterable[Sequence[RenderableType]]) -> Table:
    """Rows of a name and what belongs to it."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _now(traffic: TrafficFigures, engine: EngineFigures | None, num_requests: int) -> Table:
    works = [model.work for model in engine.distinct] if engine else []
    running = sum(work.num_running for work in works)
    waiting = sum(work.num_waiting for work in works)
    rates = traffic.rates
    return _pairs(
        [
            ("tokens/s", f"{rates.prompt:,.0f} in, {rates.generated:,.1f} out"),
            ("first token", first_token_text(traffic)),
            ("between tokens", inter_token_text(traffic)),
            ("requests", f"{num_requests} in flight"),
            ("batch", f"{running} rows, {waiting} waiting"),
        ]
    )


def _memory(engine: EngineFigures, width: int) -> Table:
    memory = engine.memory
    used = max(memory.active + memory.buffer_cache, memory.footprint)
    prefixes = sum(model.work.prefix_bytes for model in engine.distinct)
    bars = [
        ("memory", used, memory.limit, ""),
        (
            "KV caches",
            memory.kv_claimed,
            memory.kv_total,
            f", {size_text(prefixes)} of prefixes",
        ),
        ("buffers", memory.buffer_cache, memory.buffer_cache_limit, ""),
    ]
    rows: list[Sequence[RenderableType]] = [
        (name, _bar(part, whole, width // 5), f"{size_text(part)} of {size_text(whole)}{more}")
        for name, part, whole, more in bars
    ]
    if memory.pressure != "normal":
        rows.append(("pressure", Text(memory.pressure, style="red")))
    return _pairs(rows)


def _models(figures: NodeFigures, engine: EngineFigures, width: int) -> Table:
    columns = [
        Column("MODEL"),
        Column("STATE"),
        Column("ROWS", is_right=True),
        Column("WAITING", is_right=True),
        Column("OUT/S", is_right=True),
        Column("WEIGHTS", is_right=True, is_optional=True),
        Column("LOADS", is_right=True, is_optional=True),
    ]
    rates = figures.traffic.rates.models if figures.traffic is not None else {}
    rows = [
        (
            model.id,
            Text(state_text(model), style="green" if model.state == "loaded" else "yellow"),
            str(model.work.num_running),
            str(model.work.num_waiting),
            f"{rates.get(model.id, 0.0):.1f}",
            size_text(model.weight_bytes) if model.weight_bytes else "-",
            str(model.num_loads),
        )
        for model in engine.models
    ]
    return table(columns, rows, width)


def _keys(traffic: TrafficFigures, width: int) -> Table:
    columns = [
        Column(f"KEY, LAST {traffic.seconds} S"),
        Column("REQUESTS", is_right=True),
        Column("IN", is_right=True),
        Column("CACHED", is_right=True, is_optional=True),
        Column("OUT", is_right=True),
    ]
    rows = [
        (
            row.id,
            str(row.requests),
            f"{row.prompt_tokens:,}",
            f"{row.cached_tokens:,}",
            f"{row.completion_tokens:,}",
        )
        for row in traffic.keys[:10]
    ]
    return table(columns, rows, width)


def _processes(figures: NodeFigures) -> Text:
    text = Text("processes  ", style="bold")
    for i, process in enumerate(figures.processes):
        pid = "" if process.pid is None else f" {process.pid}"
        starts = "" if process.starts <= 1 else f", start {process.starts}"
        text.append(", " if i else "", style="not bold")
        text.append(f"{process.name}{pid} ", style="not bold")
        text.append(f"{process.state}{starts}", style=f"not bold {_STATES[process.state]}")
    return text


def _rank(rank: RankFigures) -> Text:
    text = Text(f"rank {rank.rank}  ", style="bold")
    text.append(f"{rank.host} ", style="not bold")
    text.append(rank.state, style="not bold green" if rank.state == "ready" else "not bold red")
    text.append(f" {size_text(rank.memory_bytes)} {rank.reason}", style="not bold")
    return text


def _bar(part: int, whole: int, width: int) -> ProgressBar:
    style = "red" if part > 0.9 * whole else "cyan"
    return ProgressBar(
        total=max(whole, 1),
        completed=min(part, whole),
        width=min(width, _BAR),
        complete_style=style,
    )
