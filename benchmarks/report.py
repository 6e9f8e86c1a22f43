"""The figures of a run as a table and a plot, beside the goals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from servers import NODE, PEER
from workloads import Figure


@dataclass(frozen=True)
class Goal:
    """What a figure of the node, or its ratio to mlx_lm.server's, should be."""

    of: Literal["value", "ratio"]
    sign: Literal["≥", "≤"]
    limit: float

    def __str__(self) -> str:
        return f"{'' if self.of == 'value' else 'ratio '}{self.sign} {self.limit:g}"

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """None where there is nothing to compare with."""
        number = value if self.of == "value" else ratio
        if number is None:
            return None
        return number >= self.limit if self.sign == "≥" else number <= self.limit


GOALS = {
    "1 stream: throughput": Goal("ratio", "≥", 1.0),
    "16 streams: throughput": Goal("ratio", "≥", 1.8),
    "32 streams: throughput": Goal("ratio", "≥", 1.8),
    "16 streams, whole model: throughput": Goal("ratio", "≥", 1.3),
    "16 greedy: throughput": Goal("ratio", "≥", 1.25),
    "16 seeded: throughput": Goal("ratio", "≥", 4),
    "16 sharing 800 tokens: throughput": Goal("ratio", "≥", 1.3),
    "16 streams: TTFT median": Goal("ratio", "≤", 0.5),
    "16 streams: TTFT p95": Goal("ratio", "≤", 0.7),
    "8 streams beside a long prompt: ITL p95 over that without": Goal("value", "≤", 2),
    "16 streams: throughput over that of the engine without HTTP": Goal("value", "≥", 0.97),
    "32 streams: peak memory": Goal("ratio", "≤", 0.8),
    "embeddings: texts a CPU-second over sentence-transformers'": Goal("value", "≥", 1.0),
    "8 streams beside 32 embedding clients: ITL p95 over that without": Goal("value", "≤", 2),
    "newcomer beside 15: TTFT over that of an idle node": Goal("value", "≤", 2),
    "128 clients at once: lost": Goal("value", "≤", 0),
    "repeated turn: TTFT over the first one's": Goal("value", "≤", 0.1),
}


def table(figures: list[Figure]) -> str:
    """Markdown: a column for each server, with the node's ratio to it, and the goals."""
    others = list(dict.fromkeys(f.server for f in figures if f.server != NODE))
    by_server = {(f.server, f.name): f for f in figures}
    heads = ["", NODE, *(head for name in others for head in (name, "ratio")), "goal", "met"]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    for mine in (f for f in figures if f.server == NODE):
        cells = [mine.name, f"{mine.value:.3g} {mine.unit}"]
        for name in others:
            theirs = by_server.get((name, mine.name))
            ratio = _ratio(mine, theirs)
            cells += [
                "" if theirs is None else f"{theirs.value:.3g} {theirs.unit}",
                "" if ratio is None else f"{ratio:.2f}",
            ]
        goal = GOALS.get(mine.name)
        ratio = _ratio(mine, by_server.get((PEER, mine.name)))
        is_met = goal and goal.is_met(mine.value, ratio)
        cells += [str(goal or ""), {True: "yes", False: "no", None: ""}[is_met]]
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ratio(mine: Figure, theirs: Figure | None) -> float | None:
    return mine.value / theirs.value if theirs is not None and theirs.value else None


def plot(figures: list[Figure], file: Path) -> None:
    """Bars of the ratios of throughput to mlx_lm.server's."""
    import matplotlib.pyplot as plt

    theirs = {f.name: f for f in figures if f.server == PEER}
    pairs = [
        (f.name.removesuffix(": throughput"), _ratio(f, theirs[f.name]))
        for f in figures
        if f.server == NODE and f.name in theirs and f.is_better == "more"
    ]
    names, ratios = zip(*reversed(pairs), strict=True)
    figure, axes = plt.subplots(figsize=(7, 0.5 + 0.4 * len(names)), layout="constrained")
    axes.bar_label(axes.barh(names, ratios), fmt="%.2f", padding=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("tokens/s of mlxnode over those of mlx_lm.server")
    figure.savefig(file)
