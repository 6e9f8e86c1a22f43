"""The report of a run: figures as a table and a plot."""

from pathlib import Path

from figures import Figure

from mlxnode.bench.servers import MLX_LM_SERVER, MLXNODE

# What the models of a stage are.
_TITLES = {
    "cut": "Six layers of the demo model",
    "whole": "The whole demo model",
    "embeddings": "With an embedding model",
    "hybrid": "A hybrid: six layers with states, two with attention",
    "windows": "Sliding windows: six layers of 512 positions, two of all",
}


def tables(figures: list[Figure]) -> str:
    """A Markdown table for each stage, below the title of its models."""
    stages = dict.fromkeys(figure.metric.stage for figure in figures)
    return "\n\n".join(
        f"### {_TITLES[stage]}\n\n{table([f for f in figures if f.metric.stage == stage])}"
        for stage in stages
    )


def table(figures: list[Figure]) -> str:
    """A Markdown table: the figures of each server, the ratios of mlxnode to it, the goals."""
    others = list(dict.fromkeys(f.server for f in figures if f.server != MLXNODE))
    by_server = {(f.server, f.metric): f for f in figures}
    heads = ["", MLXNODE, *(head for name in others for head in (name, "ratio")), "goal", "met"]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    for ours in (f for f in figures if f.server == MLXNODE):
        metric = ours.metric
        cells = [metric.name, f"{ours.value:.3g} {metric.unit}"]
        for name in others:
            theirs = by_server.get((name, metric))
            ratio = _ratio(ours, theirs)
            cells += [
                "" if theirs is None else f"{theirs.value:.3g} {metric.unit}",
                "" if ratio is None else f"{ratio:.2f}",
            ]
        cells += _goal_cells(ours, by_server.get((MLX_LM_SERVER, metric)))
        lines.append(_line(cells))
    return "\n".join(lines)


def _goal_cells(ours: Figure, theirs: Figure | None) -> list[str]:
    goal = ours.metric.goal
    if goal is None:
        return ["", ""]
    is_met = goal.is_met(ours.value, _ratio(ours, theirs))
    return [str(goal), {True: "yes", False: "no", None: ""}[is_met]]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ratio(ours: Figure, theirs: Figure | None) -> float | None:
    return ours.value / theirs.value if theirs is not None and theirs.value else None


def plot(figures: list[Figure], file: Path) -> None:
    """Draw the ratios of throughput to mlx_lm.server as bars."""
    import matplotlib.pyplot as plt

    theirs = {f.metric: f for f in figures if f.server == MLX_LM_SERVER}
    pairs = [
        (f"{f.metric.stage}: {f.metric.name.split(':')[0]}", _ratio(f, theirs[f.metric]))
        for f in figures
        if f.server == MLXNODE and f.metric in theirs and f.metric.better == "more"
    ]
    names, ratios = zip(*reversed(pairs), strict=True)
    figure, axes = plt.subplots(figsize=(7, 0.5 + 0.4 * len(names)), layout="constrained")
    axes.bar_label(axes.barh(names, ratios), fmt="%.2f", padding=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("tokens/s of mlxnode over those of mlx_lm.server")
    figure.savefig(file)
