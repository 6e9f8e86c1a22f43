"""What one worker counts: in files, which outlive it and which every worker can read.

prometheus-client writes a file for each kind of family. Here, a file has the index of the
worker, not its process id: a worker that is started again goes on in the files of the last one.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from prometheus_client import Counter, Histogram, values

from mlxnode.server.metrics import families
from mlxnode.server.metrics.ended import Ended
from mlxnode.server.metrics.families import Family
from mlxnode.server.metrics.files import is_whole

logger = logging.getLogger("mlxnode.server")

OTHER = "other"
# Label sets of a family: by model alone, by two labels, and of the family with the most labels.
# A histogram has some 5 KB for each.
_MODELS, _PAIRS, _REQUESTS = 60, 300, 3000
# Bytes that each file has from the start. A page that a full disk has no room for would end
# the process that first writes to it.
_SIZES = {"counter": 2 << 20, "histogram": 6 << 20}


# Codes of errors that are told before there is one.
_FROM_THE_START = ("rate_limit_exceeded", "invalid_api_key", "server_error")
_OPEN = ("model", "key", "reason")  # labels without a list of their values

Metric = TypeVar("Metric", Counter, Histogram)


class _Bounded(Generic[Metric]):
    """A family with ``most`` label sets at most: beyond, models and keys are ``other``."""

    def __init__(self, family: Family, metric: Metric, most: int):
        self._names = family.labels
        self._metric = metric
        self._most = most
        self._known: dict[tuple[str, ...], Metric] = {}

    def of(self, *labels: str) -> Metric:
        """The member of the family with ``labels``."""
        if labels not in self._known and len(self._known) >= self._most:
            labels = tuple(
                OTHER if name in _OPEN else value
                for name, value in zip(self._names, labels, strict=True)
            )
        known = self._known.get(labels)
        if known is None:
            known = self._metric.labels(*labels) if labels else self._metric
            self._known[labels] = known
        return known


class Counts:
    """The families of ``families.COUNTED`` of one worker. Only its event loop counts."""

    def __init__(self, folder: Path, index: int):
        """Go on with the files of worker ``index`` in ``folder``.

        Raises:
            OSError: there is no room for them, or no folder.
        """
        for kind, size in _SIZES.items():
            _prepare(folder / f"{kind}_{index}.db", size)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        values.ValueClass = values.MultiProcessValue(lambda: index)
        self._requests = _counters(families.REQUESTS, _REQUESTS)
        self._refusals = _counters(families.REFUSALS, _PAIRS)
        self._keep_alives = _counters(families.KEEP_ALIVES, 1)
        tokens = families.PROMPT_TOKENS, families.CACHED_TOKENS, families.GENERATED_TOKENS
        self._tokens = [_counters(family, _PAIRS) for family in tokens]
        self._duration = _histograms(families.DURATION, _PAIRS)
        times = families.PREPARATION, families.QUEUE, families.PREFILL, families.FIRST_TOKEN
        self._times = [_histograms(family, _MODELS) for family in times]
        self._inter_token = _histograms(families.INTER_TOKEN, _MODELS)
        self._prompt_length = _histograms(families.PROMPT_LENGTH, _MODELS)
        self._answer_length = _histograms(families.ANSWER_LENGTH, _MODELS)
        self._prefix_depth = _histograms(families.PREFIX_DEPTH, _MODELS)
        self._prefix_share = _histograms(families.PREFIX_SHARE, _MODELS)
        # A rate needs the 0 before the first one, and a board has a line before it.
        self._keep_alives.of().inc(0)
        for reason in _FROM_THE_START:
            self._refusals.of(reason).inc(0)

    def inter_token(self, model: str) -> Callable[[float], object]:
        """What takes the seconds between two tokens of a sequence of ``model``."""
        return self._inter_token.of(model).observe

    def end(self, ended: Ended) -> None:
        """Count a request, once."""
        route, model = ended.route or OTHER, ended.model or ""
        key, method = ended.key or "", ended.method or OTHER
        status = "none" if ended.status is None else str(ended.status)
        self._requests.of(route, method, status, ended.outcome, model, key).inc()
        self._duration.of(route, model).observe(ended.seconds)
        if ended.error is not None:
            self._refusals.of(ended.error).inc()
        self._keep_alives.of().inc(ended.num_keep_alives)
        if not model:
            return
        times = ended.asked, ended.queued, ended.computed, ended.first_token
        for family, seconds in zip(self._times, times, strict=True):
            if seconds is not None:
                family.of(model).observe(seconds)
        if ended.tokens is not None:
            self._count_tokens(model, key, ended)

    def _count_tokens(self, model: str, key: str, ended: Ended) -> None:
        prompt, cached, generated = ended.tokens or (0, 0, 0)
        for family, number in zip(self._tokens, (prompt, cached, generated), strict=True):
            family.of(model, key).inc(number)
        if prompt:
            self._prompt_length.of(model).observe(prompt)
        if ended.first_token is not None:  # it is a text
            self._answer_length.of(model).observe(generated)
            self._prefix_depth.of(model).observe(cached)
            self._prefix_share.of(model).observe(cached / max(prompt, 1))


def _counters(family: Family, most: int) -> _Bounded[Counter]:
    metric = Counter(family.name, family.help, family.labels, registry=None)
    return _Bounded(family, metric, most)


def _histograms(family: Family, most: int) -> _Bounded[Histogram]:
    name, buckets = family.name, family.buckets
    metric = Histogram(name, family.help, family.labels, registry=None, buckets=buckets)
    return _Bounded(family, metric, most)


def _prepare(file: Path, size: int) -> None:
    """Give ``file`` its ``size``; begin anew if it is damaged."""
    if file.exists() and (file.stat().st_size != size or not is_whole(file)):
        logger.warning("%s is damaged: its counts begin anew", file)
        file.unlink()
    if not file.exists():
        new = file.with_suffix(".new")  # which no scrape reads
        new.write_bytes(bytes(size))
        new.rename(file)
