"""Streams and a batch on the two lanes of one model. Imports mlx."""

import math
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from decode_profile import no_grammars
from mlx_lm.utils import load_model
from models import export

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.parts import TextParts
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.lanes import Lanes
from mlxnode.engine.stepping import Stepper
from mlxnode.engine.suspicion import Suspicion
from mlxnode.engine.work import Output, RequestKey
from mlxnode.kernels import backend
from mlxnode.messages.control import StepFailed
from mlxnode.messages.data import Generate, Sampling

_ANSWER = 64  # tokens
_IN_FLIGHT = 48  # lines of the batch that the engine has: more than there are rows


@dataclass(frozen=True)
class Result:
    """Milliseconds of the streams; tokens of the batch per second.

    ``ratio_batch`` is the rate of the batch beside streams, in the time in which no stream was
    computed, over its rate alone; NaN if streams were computed all the time.
    """

    itl_p50: float
    itl_p95: float
    itl_p50_beside: float
    itl_p95_beside: float
    ratio_itl_p95: float
    ttft_p95: float
    ttft_p95_beside: float
    batch_alone: float
    batch_beside: float
    ratio_batch: float


class Load:
    """A model, its lanes, and what was measured since the last ``reset``."""

    def __init__(self, lanes: Lanes, num_streams: int, pause: float):
        self._lanes = lanes
        self._stepper = Stepper(Suspicion(None), self._fail, self._emit)
        self._num_uids = 0
        self._num_streams, self._pause = num_streams, pause
        self.reset()

    def reset(self) -> None:
        self.gaps: list[float] = []
        self.first: list[float] = []
        self.batch_tokens = 0
        self.busy = 0.0  # seconds in which streams were computed

    def run(self, seconds: float, *, streams: bool, batch: bool) -> float:
        """Run for ``seconds`` and until the last stream has ended; returns the seconds."""
        self._last: dict[int, float] = {}
        self._streams: set[int] = set()
        self._lines: set[int] = set()
        self._due = [i * self._pause for i in range(self._num_streams)] if streams else []
        self._started_at = time.perf_counter()
        while (now := self._now) < seconds or self._streams:
            for due in [due for due in self._due if due <= now < seconds]:
                self._due.remove(due)
                self._send(self._streams)
            while batch and now < seconds and len(self._lines) < _IN_FLIGHT:
                self._send(self._lines)
            if not self._lanes.has_work:
                time.sleep(0.0005)  # until the next stream is due
                continue
            is_busy, before = self._lanes.foreground.has_work, time.perf_counter()
            self._stepper.step([self._lanes])
            self.busy += (time.perf_counter() - before) if is_busy else 0.0
        taken = self._now
        for uid in self._lines:
            self._lanes.abort(RequestKey(0, uid))
        while self._lanes.has_work:
            self._stepper.step([self._lanes])
        return taken

    @property
    def _now(self) -> float:
        return time.perf_counter() - self._started_at

    def _send(self, uids: set[int]) -> None:
        uid = self._num_uids = self._num_uids + 1
        length = (40, 120, 300)[uid % 3]
        message = Generate(
            uid=uid,
            model="bench",
            prompt=np.random.default_rng(uid).integers(20, 40_000, length).tolist(),
            max_tokens=_ANSWER,
            stop_ids=[],
            sampling=Sampling(temperature=0.7, top_p=0.9),
            background=uids is self._lines,
        )
        uids.add(uid)
        if uids is self._streams:
            self._last[uid] = -max(self._now, 1e-9)  # negative: no token yet
        if (refusal := self._lanes.add(RequestKey(0, uid), message)) is not None:
            raise RuntimeError(refusal.message)

    def _emit(self, outputs: list[Output]) -> None:
        now = self._now
        for output in outputs:
            uid = output.message.uid
            if uid in self._lines:
                self.batch_tokens += len(getattr(output.message, "tokens", ()))
            elif (last := self._last.get(uid)) is not None:
                (self.first if last < 0 else self.gaps).append(now - abs(last))
                self._last[uid] = now
            if output.is_last:
                if uid in self._streams:
                    self._due.append(now + self._pause)
                self._streams.discard(uid)
                self._lines.discard(uid)

    def _fail(self, _: StepFailed) -> None:
        raise RuntimeError("a step failed")


def measure(
    layers: int | None, num_streams: int, pause: float, seconds: float, rounds: int
) -> Result:
    """Streams without the batch and beside it, in turn, then the batch alone."""
    with tempfile.TemporaryDirectory() as scratch:
        model = load_model(export(Path(scratch) / "model", layers))[0]
    config, kernels = EngineConfig(num_speculative_tokens=0), backend.choose("auto")
    parts = TextParts(model, config, MemoryBudget(10**10), no_grammars, kernels)
    lanes = Lanes(TextRunner(parts), TextRunner(parts, is_background=True))
    load = Load(lanes, num_streams, pause)
    load.run(min(seconds, 5.0), streams=True, batch=True)  # warm
    found: defaultdict[str, list[float]] = defaultdict(list)
    rates: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, has_batch in (("", False), ("_beside", True)):
            load.reset()
            taken = load.run(seconds, streams=True, batch=has_batch)
            found["itl" + name] += load.gaps
            found["ttft" + name] += load.first
        rates["beside"].append(load.batch_tokens / taken)
        free = taken - load.busy
        rates["free"].append(load.batch_tokens / free if free > taken / 100 else math.nan)
        load.reset()
        taken = load.run(seconds, streams=False, batch=True)
        rates["alone"].append(load.batch_tokens / taken)
    alone = statistics.mean(rates["alone"])
    p95 = {name: _percentile(found[name], 95) for name in found}
    return Result(
        itl_p50=_percentile(found["itl"], 50),
        itl_p95=p95["itl"],
        itl_p50_beside=_percentile(found["itl_beside"], 50),
        itl_p95_beside=p95["itl_beside"],
        ratio_itl_p95=p95["itl_beside"] / p95["itl"],
        ttft_p95=p95["ttft"],
        ttft_p95_beside=p95["ttft_beside"],
        batch_alone=alone,
        batch_beside=statistics.mean(rates["beside"]),
        ratio_batch=statistics.mean(rates["free"]) / alone,
    )


def _percentile(seconds: list[float], percent: int) -> float:
    return float(np.percentile(seconds, percent)) * 1000
