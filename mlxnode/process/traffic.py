"""The traffic of the last minute: what requests used, and how long they waited.

Requests count when they have ended; the rates of tokens are those of the engine's own counts,
so that a long answer counts while it grows.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

import msgspec

from mlxnode.figures import EngineFigures, ModelFigures, Rates, TrafficFigures, TrafficRow
from mlxnode.messages.control import Usage

WINDOW = 60  # seconds of requests
RATE_WINDOW = 5.0  # seconds over which the rates of tokens are means
_MOST_WAITS = 500  # and gaps, of one second, so that a flood of requests costs no memory
_MOST_ROWS = 100  # the keys and models with the most tokens


class _Second(msgspec.Struct, gc=False):
    """The requests that ended in one second."""

    at: int
    keys: dict[str, TrafficRow]
    models: dict[str, TrafficRow]
    waits: list[float]  # until the first token of a text
    gaps: list[float]  # between two tokens, the mean of each text


class Traffic:
    """Adds up what the workers and the engine report; used by the supervisor's loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._seconds: deque[_Second] = deque()
        self._counts: deque[tuple[float, dict[str, ModelFigures]]] = deque()

    def add(self, usage: Usage) -> None:
        """A request has ended."""
        second = self._this_second()
        for rows, id in ((second.keys, usage.key), (second.models, usage.model)):
            rows[id] = _plus(rows.get(id), _row_of(id, usage))
        is_text = usage.completion > 0
        if is_text and usage.first_output is not None and len(second.waits) < _MOST_WAITS:
            second.waits.append(usage.first_output)
        if usage.inter_token is not None and len(second.gaps) < _MOST_WAITS:
            second.gaps.append(usage.inter_token)

    def note_engine(self, figures: EngineFigures) -> None:
        """The engine has counted its tokens."""
        now = self._clock()
        models = {model.id: model for model in figures.models}
        before = self._counts[-1][1] if self._counts else models
        if any(_is_older(models[id], before[id]) for id in models if id in before):
            self._counts.clear()  # another engine, or a model that was loaded again
        self._counts.append((now, models))
        while len(self._counts) > 2 and now - self._counts[1][0] >= RATE_WINDOW:
            self._counts.popleft()

    def figures(self) -> TrafficFigures:
        """The traffic until now."""
        self._forget()
        waits = sorted(wait for second in self._seconds for wait in second.waits)
        gaps = sorted(gap for second in self._seconds for gap in second.gaps)
        models = _sum(second.models.values() for second in self._seconds)
        texts = [row for row in models if row.completion_tokens > 0]
        prompt = sum(row.prompt_tokens for row in texts)
        return TrafficFigures(
            seconds=WINDOW,
            rates=self._rates(),
            keys=_sum(second.keys.values() for second in self._seconds),
            models=models,
            first_token_median=_percentile(waits, 0.5),
            first_token_p95=_percentile(waits, 0.95),
            inter_token_median=_percentile(gaps, 0.5),
            inter_token_p95=_percentile(gaps, 0.95),
            requests_per_second=self._ended_lately / RATE_WINDOW,
            prefix_share=sum(row.cached_tokens for row in texts) / prompt if prompt else None,
        )

    @property
    def _ended_lately(self) -> int:
        """The requests that ended in the last whole seconds of ``RATE_WINDOW``."""
        now = int(self._clock())
        lately = [s for s in self._seconds if now - RATE_WINDOW <= s.at < now]
        return sum(row.requests for second in lately for row in second.keys.values())

    def _rates(self) -> Rates:
        if len(self._counts) < 2:
            return Rates()
        (began, first), (ended, last) = self._counts[0], self._counts[-1]
        if ended <= began or self._clock() - ended > RATE_WINDOW:  # the engine is silent
            return Rates()
        sums: Counter[str] = Counter()
        models: dict[str, float] = {}
        for id, model in last.items():
            old = first.get(id)
            prompt, generated = _tokens(model, old)
            models[id] = generated / (ended - began)
            if model.same_as is None:  # else the work has been counted
                sums.update(prompt=prompt, generated=generated)
        seconds = ended - began
        prompt, generated = sums["prompt"] / seconds, sums["generated"] / seconds
        return Rates(prompt=prompt, generated=generated, models=models)

    def _this_second(self) -> _Second:
        self._forget()
        at = int(self._clock())
        if not self._seconds or self._seconds[-1].at != at:
            self._seconds.append(_Second(at, {}, {}, [], []))
        return self._seconds[-1]

    def _forget(self) -> None:
        oldest = int(self._clock()) - WINDOW
        while self._seconds and self._seconds[0].at <= oldest:
            self._seconds.popleft()


def _row_of(id: str, usage: Usage) -> TrafficRow:
    return TrafficRow(
        id=id,
        requests=1,
        prompt_tokens=usage.prompt,
        cached_tokens=usage.cached,
        completion_tokens=usage.completion,
    )


def _plus(row: TrafficRow | None, more: TrafficRow) -> TrafficRow:
    if row is None:
        return more
    return TrafficRow(
        id=row.id,
        requests=row.requests + more.requests,
        prompt_tokens=row.prompt_tokens + more.prompt_tokens,
        cached_tokens=row.cached_tokens + more.cached_tokens,
        completion_tokens=row.completion_tokens + more.completion_tokens,
    )


def _sum(seconds: Iterable[Iterable[TrafficRow]]) -> list[TrafficRow]:
    """One row for each id, those with the most tokens first."""
    rows: dict[str, TrafficRow] = {}
    for second in seconds:
        for row in second:
            rows[row.id] = _plus(rows.get(row.id), row)
    ordered = sorted(
        rows.values(), key=lambda row: (-row.prompt_tokens - row.completion_tokens, row.id)
    )
    return ordered[:_MOST_ROWS]


def _is_older(model: ModelFigures, before: ModelFigures) -> bool:
    """True if a count has fallen since ``before``: it has begun again."""
    new, old = model.work, before.work
    return new.prompt_tokens < old.prompt_tokens or new.generated_tokens < old.generated_tokens


def _tokens(model: ModelFigures, before: ModelFigures | None) -> tuple[int, int]:
    """The prompt tokens that were computed, and the tokens generated, since ``before``."""
    new = model.work
    old = before.work if before is not None else None
    prompt = new.prompt_tokens - new.cached_tokens
    if old is None:
        return prompt, new.generated_tokens
    computed_before = old.prompt_tokens - old.cached_tokens
    return max(prompt - computed_before, 0), new.generated_tokens - old.generated_tokens


def _percentile(ordered: list[float], share: float) -> float | None:
    """The nearest-rank percentile of values in order; None: there are none."""
    if not ordered:
        return None
    return ordered[max(-int(-share * len(ordered) // 1), 1) - 1]
