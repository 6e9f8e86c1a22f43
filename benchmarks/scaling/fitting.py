"""Fits the costs of a node to what a few requests measure, over HTTP."""

import asyncio
import contextlib
import itertools
import math
import statistics
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx2 as httpx
import numpy as np
from safetensors import safe_open

from mlxnode.bench.servers import Server
from scaling.costs import Beside, Costs, Line
from scaling.playing import random_ids, stream

_PROMPTS = (32, 128, 256, 512, 900)  # tokens; shorter than the context of the demo model
_ROWS = (1, 2, 4, 8)
_SHORT, _LONG = 32, 600  # tokens of the prompts of decoding rows
_ANSWER = 32
_STREAMS_BESIDE = 3


class Fitting:
    """The measurements of one node. ``rounds``: of each; the medians count."""

    def __init__(self, client: httpx.AsyncClient, server: Server, rounds: int):
        self._client, self._server, self._rounds = client, server, rounds
        self._seeds = itertools.count()

    async def costs(self, other: Server | None = None) -> Costs:
        """Measure alone; then beside ``other``, which works as well on the same machine."""
        await self._prompt(64)  # the model is loaded now
        prompts = {tokens: await self._prompt(tokens) for tokens in _PROMPTS}
        steps = {rows: await self._step(rows, _SHORT) for rows in _ROWS}
        long = await self._step(4, _LONG)
        http = _fit([(tokens, cached) for tokens, (_, cached) in prompts.items()], 1)
        prefill = _fit([(n, cold - cached) for n, (cold, cached) in prompts.items()], 2)
        step_context = max(long - steps[4], 0.0) / (4 * (_LONG - _SHORT))
        return Costs(
            http=Line(http[0], http[1]),
            prefill=Line(prefill[0], prefill[1]),
            prefill_context=2 * prefill[2],
            step={
                rows: max(seconds - step_context * rows * (_SHORT + _ANSWER / 2), 0.0)
                for rows, seconds in steps.items()
            },
            step_context=step_context,
            beside=Beside() if other is None else await self._beside(other),
            origin=f"fitted to {self._server.url}, medians of {self._rounds} rounds",
        )

    async def _beside(self, other: Server) -> Beside:
        """How much longer the same takes beside the other node; alone is measured again."""
        found: list[tuple[float, float, float]] = []
        for is_beside in (False, True):
            async with self._load(other if is_beside else None):
                cold, cached = await self._prompt(512)
                found.append((cached, cold - cached, await self._step(4, _SHORT)))
        http, prefill, decode = (
            max(beside / alone, 1.0) for alone, beside in zip(*found, strict=True)
        )
        return Beside(http, prefill, decode)

    async def _prompt(self, tokens: int) -> tuple[float, float]:
        """The time to the first token: of a new prompt, and of the same one again."""
        cold, cached = [], []
        for _ in range(self._rounds):
            prompt = self._new(tokens)
            for times in (cold, cached):
                request = await stream(self._client, self._server, prompt, 2)
                times.append(request.first_token_at - request.sent_at)
        return statistics.median(cold), statistics.median(cached)

    async def _step(self, rows: int, tokens: int) -> float:
        """The time between two tokens while ``rows`` rows run."""
        medians = []
        for _ in range(self._rounds):
            found = await asyncio.gather(
                *(
                    stream(self._client, self._server, self._new(tokens), _ANSWER)
                    for _ in range(rows)
                )
            )
            gaps = []
            since = max(request.first_token_at for request in found)
            until = min(request.last_token_at for request in found)
            for request in found:
                times = np.cumsum([request.first_token_at, *request.gaps])
                pairs = itertools.pairwise(times)
                gaps += [after - before for before, after in pairs if since <= before < until]
            medians.append(statistics.median(gaps))
        return statistics.median(medians)

    @contextlib.asynccontextmanager
    async def _load(self, other: Server | None) -> AsyncIterator[None]:
        """Streams on the other node until the block ends."""

        async def repeat(server: Server) -> None:
            while True:
                await stream(self._client, server, self._new(150), 24)

        count = 0 if other is None else _STREAMS_BESIDE
        tasks = [asyncio.create_task(repeat(other)) for _ in range(count) if other is not None]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _new(self, tokens: int) -> list[int]:
        return random_ids(f"fit {next(self._seeds)}", tokens)


def layers_share(folder: Path) -> float:
    """The part of the weights in ``folder`` that belongs to layers; the rest makes logits."""
    sizes = {True: 0, False: 0}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                sizes[".layers." in name] += math.prod(opened.get_slice(name).get_shape())
    return sizes[True] / sum(sizes.values())


def _fit(points: Sequence[tuple[int, float]], degree: int) -> list[float]:
    """The coefficients of least squares, the constant first. None is negative."""
    x, y = (np.array(each, float) for each in zip(*points, strict=True))
    terms = list(range(degree + 1))
    while True:
        columns = np.stack([x**power for power in terms], axis=1)
        # Relative errors: a long prompt counts no more than a short one.
        found, *_ = np.linalg.lstsq(columns / y[:, None], np.ones_like(y), rcond=None)
        if min(found) >= 0 or len(terms) == 1:
            break
        terms.pop(int(np.argmin(found)))
    coefficients = [0.0] * (degree + 1)
    for power, value in zip(terms, found, strict=True):
        coefficients[power] = max(float(value), 0.0)
    return coefficients
