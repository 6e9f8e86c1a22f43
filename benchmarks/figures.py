"""Figures: what a load measures, the value of one server, and the goal."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Goal:
    """The limit of a figure of mlxnode, or of its ratio to the figure of mlx_lm.server."""

    of: Literal["value", "ratio"]
    sign: Literal["≥", "≤"]
    limit: float

    def __str__(self) -> str:
        return f"{'' if self.of == 'value' else 'ratio '}{self.sign} {self.limit:g}"

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """True if the figure meets the goal; None if the goal is a ratio and there is none."""
        number = value if self.of == "value" else ratio
        if number is None:
            return None
        return number >= self.limit if self.sign == "≥" else number <= self.limit


@dataclass(frozen=True)
class Metric:
    """What is measured: the models, the title in the report, the unit, the direction, the goal.

    ``stage`` names the models.
    """

    stage: str
    name: str
    unit: str
    better: Literal["more", "less"]
    goal: Goal | None


@dataclass(frozen=True)
class Figure:
    """The value of a metric for one server: of one round, or the median of all rounds."""

    server: str
    metric: Metric
    value: float

    def __str__(self) -> str:
        metric = self.metric
        return f"{metric.stage}, {self.server}: {metric.name}: {self.value:.3g} {metric.unit}"

    def as_json(self) -> dict[str, str | float]:
        return {
            "server": self.server,
            "stage": self.metric.stage,
            "name": self.metric.name,
            "unit": self.metric.unit,
            "is_better": self.metric.better,
            "value": self.value,
        }
