"""What a model needs, from its shapes alone: nothing is read or computed.

A trace of a large model takes a moment, so all is found in pieces: generators yield after each.
"""

import contextlib
import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_unflatten
from mlx_lm.models.cache import ArraysCache

from mlxnode.engine import cpu
from mlxnode.engine.decode import projection
from mlxnode.engine.fit import caches
from mlxnode.engine.fit.graph import Graph, named_arrays, trace
from mlxnode.engine.fit.peak import peak_bytes
from mlxnode.engine.kvcache.budget import max_length_of
from mlxnode.engine.kvcache.prompt_cache import (
    PromptCache,
    flat_layers,
    new_prompt_cache,
)
from mlxnode.engine.kvcache.separate import new_batch_cache
from mlxnode.engine.loader import split
from mlxnode.models.fit import SMALL_CONTEXT, Activations, KVBytes, MemoryNeeds, num_slots

_TRACED_ROWS = 4  # of a larger batch, each row needs as much
_FEW = 2  # tokens: enough to learn the shapes of a cache

Result = TypeVar("Result")
Pieces = Generator[None, None, Result]


class Tracer:
    """Traces forward passes of a model that is built, but whose weights are not read.

    ``bits`` quantizes the KV caches; ``chunk`` is the longest chunk of a prompt, in tokens.
    """

    def __init__(self, model: nn.Module, bits: int | None, chunk: int):
        self._model = model
        self._weights = named_arrays(model.parameters())
        self._bits = bits
        self._chunk = chunk

    @property
    def weights(self) -> int:
        """The bytes of the weights, as they are when they are loaded."""
        return sum(array.nbytes for _, array in self._weights)

    def kv_bytes(self, bits: int | None) -> Pieces[KVBytes]:
        """The bytes of the KV cache of a row."""
        fixed, growing = 0, []
        layer: Any
        for layer in flat_layers((yield from self._filled(_FEW, bits))):
            arrays = caches.get(caches.places_of([layer]))
            if isinstance(layer, ArraysCache):
                fixed += sum(array.nbytes for array in arrays)
            else:
                size = sum(array.nbytes // array.shape[2] for array in arrays)
                growing.append((size, max_length_of(layer)))
        return KVBytes(fixed, tuple(growing))

    def prefill_peak(self, tokens: int) -> Pieces[int]:
        """The peak of the last chunk of a prompt of ``tokens``, its KV cache included."""
        count = min(self._chunk, tokens)
        cache = yield from self._filled(tokens - count, self._bits)
        places = caches.places_of(cache)
        before = [caches.blank(array) for array in caches.get(places)]

        def run(ids: mx.array) -> list[mx.array]:
            with projection.only_at([count - 1]):
                logits = self._model(ids, cache=cache)
            return [logits, *caches.get(caches.places_of(cache))]

        return (yield from self._peak(run, places, before, mx.zeros((1, count), mx.int32)))

    def decode_peak(self, rows: int, tokens: int) -> Pieces[int]:
        """The peak of a step of ``rows`` rows, for which the batch has allocated the memory."""
        length = max((tokens - 1) // 128 * 128, 1)
        row = yield from self._filled(length, self._bits)
        batch = new_batch_cache(self._model)

        def join() -> None:
            batch.join([copy.deepcopy(row) for _ in range(rows)], [length] * rows)
            batch.reserve(1)

        self._trace(join)
        yield
        places = caches.places_of(batch.layers)
        before = [caches.blank(array) for array in caches.get(places)]

        def run(ids: mx.array) -> list[mx.array]:
            logits = batch.run(self._model, ids)
            return [logits, *caches.get(caches.places_of(batch.layers))]

        return (yield from self._peak(run, places, before, mx.zeros((rows, 1), mx.int32)))

    def _filled(self, length: int, bits: int | None) -> Pieces[PromptCache]:
        """A cache of one sequence of ``length`` tokens, without contents."""
        cache = new_prompt_cache(self._model, bits)
        if length == 0:
            return cache
        self._trace(lambda: self._model(mx.zeros((1, _FEW), mx.int32), cache=cache))
        places = caches.places_of(cache)
        caches.put(places, [caches.blank(array) for array in caches.get(places)])
        caches.lengthen(cache, length)
        yield
        return cache

    def _trace(self, run: Callable[[], object]) -> None:
        """Run a function for its effect on caches, without evaluation."""

        def function(*weights: mx.array) -> list[mx.array]:
            self._set(weights)
            run()
            return [mx.zeros(1)]

        with self._unevaluated():
            trace(function, [array for _, array in self._weights])

    def _peak(
        self,
        run: Callable[[mx.array], Sequence[mx.array]],
        places: Sequence[caches.Place],
        before: Sequence[mx.array],
        ids: mx.array,
    ) -> Pieces[int]:
        """The peak of ``run(ids)``, whose caches have arrays like ``before``."""
        num_weights = len(self._weights)

        def function(*arrays: mx.array) -> Sequence[mx.array]:
            self._set(arrays[:num_weights])
            caches.put(places, arrays[num_weights:-1])
            return run(arrays[-1])

        with self._unevaluated():
            arrays = [array for _, array in self._weights]
            graph: Graph = trace(function, [*arrays, *before, ids])
        yield
        peak = peak_bytes(graph, graph.inputs[:num_weights])
        yield
        return peak

    def _set(self, weights: Sequence[mx.array]) -> None:
        names = [name for name, _ in self._weights]
        self._model.update(tree_unflatten(list(zip(names, weights, strict=True))))

    @contextlib.contextmanager
    def _unevaluated(self) -> Iterator[None]:
        """Nothing is evaluated. The model has its own weights again afterwards."""
        contiguous, evaluate = mx.contiguous, mx.eval
        # MLX cannot export this operation. The stand-in allocates as much.
        mx.contiguous = lambda array, *_, **__: array + mx.zeros(1, array.dtype)
        mx.eval = lambda *_: None  # a cache that grows is evaluated layer by layer
        try:
            with cpu.traced(), split.alone():
                yield
        finally:
            mx.contiguous, mx.eval = contiguous, evaluate
            self._set([array for _, array in self._weights])


def needs_in_pieces(
    model: nn.Module, *, bits: int | None, chunk: int, context_length: int, max_batch_size: int
) -> Pieces[MemoryNeeds]:
    """What ``model`` needs; its weights are not evaluated. Yields between two traces."""
    projection.prepare(model)
    tracer = Tracer(model, bits, chunk)
    kv = yield from tracer.kv_bytes(bits)
    points, rows = [], min(max_batch_size, _TRACED_ROWS)
    for tokens in (min(SMALL_CONTEXT, context_length), context_length):
        row = kv.of(tokens)
        prefill = (yield from tracer.prefill_peak(tokens)) - tracer.weights - row
        decode = (yield from tracer.decode_peak(rows, tokens)) - tracer.weights
        decode = (decode - num_slots(rows) * row) // rows
        points.append(Activations(tokens, max(prefill, 0), max(decode, 0)))
    quantized = yield from _quantized(tracer, bits)
    return MemoryNeeds(tracer.weights, kv, (points[0], points[1]), quantized)


def _quantized(tracer: Tracer, bits: int | None) -> Pieces[tuple[tuple[int, KVBytes], ...]]:
    """The KV caches of fewer bits."""
    found = []
    for fewer in (8, 4):
        if bits is None or fewer < bits:
            found.append((fewer, (yield from tracer.kv_bytes(fewer))))
    return tuple(found)
