"""The figures of a node as text for people."""

from collections.abc import Sequence

from mlxnode.figures import EngineFigures, ModelFigures, NodeFigures, ProcessFigures
from mlxnode.process.text_table import aligned

_PROCESS_HEADER = ("PROCESS", "PID", "STATE", "UP", "STARTS")
_MODEL_HEADER = (
    "MODEL",
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
    state = "draining" if figures.is_draining else f"up {_duration(figures.uptime)}"
    lines = [
        f"mlxnode {figures.version} at {figures.address}, {state}, pid {figures.pid}, "
        f"at most {figures.descriptor_limit} open files a process",
        "",
        *aligned([_PROCESS_HEADER, *map(_process_row, figures.processes)], left=1),
        "",
    ]
    if figures.engine is None:
        lines += ["The engine has reported no figures yet."]
    else:
        lines += aligned(_memory_rows(figures.engine), left=3)
        lines += [
            "",
            *aligned([_MODEL_HEADER, *map(_model_row, figures.engine.models)], left=1),
        ]
    if figures.failed_models:
        failed = [f"{id}: {reason}" for id, reason in figures.failed_models.items()]
        lines += ["", "FAILED MODELS", *failed]
    return "\n".join(lines)


def _process_row(process: ProcessFigures) -> Sequence[str]:
    pid = "-" if process.pid is None else str(process.pid)
    uptime = "-" if process.uptime is None else _duration(process.uptime)
    return process.name, pid, process.state, uptime, str(process.starts)


def _memory_rows(engine: EngineFigures) -> list[Sequence[str]]:
    memory = engine.memory
    prefixes = sum(model.work.prefix_bytes for model in engine.models)
    return [
        ("MEMORY", "limit", _size(memory.limit)),
        ("", "active", f"{_size(memory.active)}, peak {_size(memory.peak)}"),
        (
            "",
            "buffer cache",
            f"{_size(memory.buffer_cache)} of {_size(memory.buffer_cache_limit)}",
        ),
        ("", "footprint", _size(memory.footprint)),
        (
            "",
            "KV caches",
            f"{_size(memory.kv_claimed)} of {_size(memory.kv_total)} claimed, "
            f"{_size(prefixes)} for prefixes",
        ),
        ("", "wired", _size(memory.wired_limit) if memory.wired_limit else "off"),
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
    return (model.id, _size(model.weight_bytes), *map(str, counts))


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole} s" if minutes else f"{whole} s"
