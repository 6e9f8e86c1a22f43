"""The result of a run: as a document, as tables, as a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mlxnode.bench.figures import MORE_IS_BETTER, UNITS, Figure, Kind, ratio
from mlxnode.bench.servers import BenchError

_TITLES: dict[Kind, str] = {"chat": "Answers", "embedding": "Embeddings"}


def document(
    figures: Sequence[Figure],
    servers: Mapping[Kind, Mapping[str, str]],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """All of it as JSON. ``servers``: the name of the model by kind and server."""
    rows = [
        {
            **figure._asdict(),
            "unit": UNITS[figure.name],
            "is_better": "more" if figure.name in MORE_IS_BETTER else "less",
        }
        for figure in figures
    ]
    return {**facts, "models": servers, "figures": rows}


def tables(figures: Sequence[Figure], shares: Mapping[str, float], first: str) -> Group:
    """A table for each kind of load: the servers, and the ratio of ``first`` to the others."""
    kinds: list[Kind] = list(dict.fromkeys(figure.kind for figure in figures))
    parts: list[Text | Table] = []
    for kind in kinds:
        parts += [Text(_TITLES[kind], style="bold"), _table(figures, kind, first), Text()]
    for server, share in shares.items():
        line = f"{server}: weights x tokens/s of 1 client = {share:.0%} of the memory bandwidth"
        parts.append(Text(line))
    return Group(*parts)


def _table(figures: Sequence[Figure], kind: Kind, first: str) -> Table:
    of_kind = [figure for figure in figures if figure.kind == kind]
    names = list(dict.fromkeys(figure.server for figure in of_kind))
    others = [name for name in names if name != first]
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("CLIENTS", "FIGURE"):
        drawn.add_column(title)
    drawn.add_column(first, justify="right")
    for name in others:
        drawn.add_column(name, justify="right", overflow="fold")
        drawn.add_column("RATIO", justify="right")
    for ours in (figure for figure in of_kind if figure.server == first):
        better = "more" if ours.name in MORE_IS_BETTER else "less"
        unit = "" if UNITS[ours.name] == ours.name else f" in {UNITS[ours.name]}"
        cells = [str(ours.num_clients), f"{ours.name}{unit}, {better} is better"]
        cells.append(f"{ours.value:.4g}")
        for name in others:
            same = (f for f in of_kind if f.server == name and f[1:4] == ours[1:4])
            theirs = next(same, None)
            value = ratio(ours, of_kind, name)
            cells.append("-" if theirs is None else f"{theirs.value:.4g}")
            cells.append("-" if value is None else f"{value:.2f}")
        drawn.add_row(*cells)
    return drawn


def require_matplotlib() -> None:
    """Raises BenchError if nothing can be drawn, before anything is measured."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BenchError(
            "--plot needs matplotlib: install it with `pip install 'mlxnode[bench]'`"
        ) from error


def plot(figures: Sequence[Figure], file: Path) -> None:
    """Draw the throughput of each server as bars.

    Raises:
        BenchError: the file cannot be written.
    """
    from matplotlib.figure import Figure as Drawing

    drawn = [figure for figure in figures if figure.name in MORE_IS_BETTER]
    kinds = list(dict.fromkeys(figure.kind for figure in drawn))
    drawing = Drawing(figsize=(7, 3.2 * len(kinds)), layout="constrained")
    for i, kind in enumerate(kinds):
        axes = drawing.add_subplot(len(kinds), 1, i + 1)
        of_kind = [figure for figure in drawn if figure.kind == kind]
        names = list(dict.fromkeys(figure.server for figure in of_kind))
        clients = sorted({figure.num_clients for figure in of_kind})
        for j, name in enumerate(names):
            values = {f.num_clients: f.value for f in of_kind if f.server == name}
            places = [
                clients.index(count) + (j - (len(names) - 1) / 2) * 0.8 / len(names)
                for count in values
            ]
            bars = axes.bar(places, list(values.values()), 0.8 / len(names), label=name)
            axes.bar_label(bars, fmt="%.3g", fontsize=8)
        axes.set_xticks(range(len(clients)), [str(count) for count in clients])
        axes.set_xlabel("requests at a time")
        axes.set_ylabel(of_kind[0].name)
        axes.legend()
    try:
        drawing.savefig(file)
    except (OSError, ValueError) as error:
        raise BenchError(f"--plot {file}: cannot be written: {error}") from error
