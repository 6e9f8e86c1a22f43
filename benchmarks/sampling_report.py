"""The results of the sampling benchmark as a table and as a plot."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One implementation at one shape. Milliseconds a call; bytes moved by one call."""

    implementation: str
    batch: int
    vocabulary: int
    milliseconds: float | None  # None for a kernel that this machine cannot run
    bytes: int
    passes: float


def table(results: list[Result]) -> str:
    lines = [
        "| B | V | implementation | ms | of mlx-lm's time | MB moved | passes |",
        "|---|---|---|---|---|---|---|",
    ]
    mlx_lm = {
        (result.batch, result.vocabulary): result.milliseconds
        for result in results
        if result.implementation == "mlx-lm" and result.milliseconds is not None
    }
    for result in results:
        time_cell = share = "-"
        if result.milliseconds is not None:
            other = mlx_lm[result.batch, result.vocabulary]
            time_cell = f"{result.milliseconds:.2f}"
            share = f"{result.milliseconds / other:.2f}"
        lines.append(
            f"| {result.batch} | {result.vocabulary} | {result.implementation} | {time_cell} "
            f"| {share} | {result.bytes / 1e6:.1f} | {result.passes:.1f} |"
        )
    return "\n".join(lines)


def plot(results: list[Result], path: Path) -> None:
    """Time over batch size, one panel for each vocabulary."""
    from matplotlib import pyplot

    vocabularies = sorted({result.vocabulary for result in results})
    figure, panels = pyplot.subplots(
        1, len(vocabularies), figsize=(4 * len(vocabularies), 3.5), squeeze=False, sharey=True
    )
    for panel, vocabulary in zip(panels[0], vocabularies, strict=True):
        for name in ("mlx-lm", "operations", "kernel"):
            points = [
                (result.batch, result.milliseconds)
                for result in results
                if (result.implementation, result.vocabulary) == (name, vocabulary)
                and result.milliseconds is not None
            ]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", label=name)
        panel.set(title=f"V = {vocabulary}", xlabel="rows", xscale="log", yscale="log")
    panels[0][0].set_ylabel("ms")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path)
