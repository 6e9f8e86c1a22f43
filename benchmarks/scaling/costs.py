"""What a node needs for its work: measured or assumed figures of one model on one machine."""

import json
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """``fixed + per_token * tokens``, in seconds."""

    fixed: float
    per_token: float = 0.0

    def at(self, tokens: float) -> float:
        return self.fixed + self.per_token * tokens


@dataclass(frozen=True)
class Memory:
    """The KV caches of a node, in tokens. ``prefixes`` of them can be cached prefixes."""

    tokens: float = 1e9
    prefixes: float = 2.5e8


@dataclass(frozen=True)
class Beside:
    """By how much work takes longer while the other node of the same machine works."""

    http: float = 1.0
    prefill: float = 1.0
    decode: float = 1.0


@dataclass(frozen=True)
class Costs:
    """The seconds of each kind of work.

    ``http``: from the client to the engine and back, by prompt tokens, all of them cached.
    ``prefill``: one pass, by its tokens; ``prefill_context``: in addition, for each of its
    tokens and each token before it. ``step``: a decode step by its rows, between which there
    are lines; ``step_context``: in addition, for each token in the caches of its rows.
    ``layers_share`` is the part of a model's weights that a pass without logits reads.
    """

    http: Line
    prefill: Line
    step: dict[int, float]
    prefill_context: float = 0.0
    step_context: float = 0.0
    layers_share: float = 1.0
    beside: Beside = field(default_factory=Beside)
    memory: Memory = field(default_factory=Memory)
    origin: str = ""  # where the figures are from

    def prefill_seconds(self, tokens: int, context: int, *, is_last: bool = True) -> float:
        """One pass on ``tokens`` tokens of a prompt, after ``context`` others.

        ``is_last``: it completes the prompt. No other pass computes logits.
        """
        pairs = tokens * (context + tokens / 2)
        fixed = self.prefill.fixed * (1.0 if is_last else self.layers_share)
        return fixed + self.prefill.per_token * tokens + self.prefill_context * pairs

    def step_seconds(self, rows: int, tokens: int) -> float:
        """One decode step of ``rows`` rows, which have ``tokens`` tokens in all."""
        return self._step_of(rows) + self.step_context * tokens

    def _step_of(self, rows: int) -> float:
        sizes = sorted(self.step)
        if len(sizes) == 1:
            return self.step[sizes[0]]
        last = min(max(bisect_left(sizes, rows), 1), len(sizes) - 1)
        low, high = sizes[last - 1], sizes[last]
        slope = (self.step[high] - self.step[low]) / (high - low)
        return max(self.step[low] + slope * (rows - low), 0.0)

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> "Costs":
        """Read what ``save`` has written.

        Raises:
            ValueError: the file has something else.
        """
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            return cls(
                http=Line(**data["http"]),
                prefill=Line(**data["prefill"]),
                step={int(rows): float(seconds) for rows, seconds in data["step"].items()},
                prefill_context=data["prefill_context"],
                step_context=data["step_context"],
                layers_share=data.get("layers_share", 1.0),
                beside=Beside(**data["beside"]),
                memory=Memory(**data["memory"]),
                origin=data["origin"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} has no costs of a node: {error!r}") from error
