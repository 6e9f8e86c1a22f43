"""Loads a model in pieces of a fraction of a second, between which others are served.

All pieces run on the thread of the engine: MLX's streams belong to a thread.
"""

import functools
import time
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.grammar import GrammarCompiler
from mlxnode.engine.decode.parts import TextParts
from mlxnode.engine.decode.runner import TextRunner
from mlxnode.engine.decode.trial import try_batch_in_pieces
from mlxnode.engine.embedding.encoders import open_encoder
from mlxnode.engine.embedding.runner import EmbeddingRunner
from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.disk import PrefixStore
from mlxnode.engine.kvcache.origin import fingerprint, origin_of
from mlxnode.engine.lanes import Lanes
from mlxnode.engine.loader import open_in_pieces
from mlxnode.engine.loader.bases import BaseWeights
from mlxnode.engine.loader.split import is_spread, strategy_of
from mlxnode.engine.ranks.leader import Leader
from mlxnode.kernels.backend import Kernels
from mlxnode.messages.ranks import Loaded
from mlxnode.models.cache_folder import cache_folder
from mlxnode.models.served import ServedModel

# A slice of weights is as large as it is read in this time, on the disk and the device at hand.
_SLICE_SECONDS = 0.03
_FIRST_SLICE = 16 * 2**20  # bytes
_MAX_SLICE = 512 * 2**20


class NewRunner(NamedTuple):
    """A runner, and the arrays of its weights."""

    runner: Lanes
    arrays: list[mx.array]


def load_in_pieces(
    model: ServedModel,
    config: EngineConfig,
    budget: MemoryBudget,
    bases: BaseWeights,
    kernels: Kernels,
    ranks: Leader | None = None,
) -> Generator[None, None, NewRunner]:
    """Load ``model`` and try it; yields between two pieces.

    The weights that ``bases`` knows already are not loaded again. ``ranks`` load their parts
    at the same time.

    Raises:
        ModelError: it cannot be served. Models raise any other exception as well.
        BackendError: a kernel that the configuration requires does not work.
    """
    if not model.generates_text:
        return (yield from _load_encoder(model, config, kernels))
    config = config.for_model(model.kv_cache_bits)
    opened = yield from open_in_pieces(model, bases)
    yield
    arrays = _arrays_of(opened.parameters())
    slices = evaluate_in_slices(arrays, in_turn=_is_made(model))
    elsewhere: list[Loaded] = []
    if ranks is not None and is_spread(opened):
        elsewhere = yield from _load_everywhere(model, opened, slices, ranks)
    else:
        yield from slices
    make_compiler = functools.partial(GrammarCompiler, model.folder)
    yield from try_batch_in_pieces(opened, config, make_compiler, kernels)
    yield
    store = _prefix_store(model, config)
    parts = TextParts(opened, config, budget, make_compiler, kernels, store)
    for part in elsewhere:  # which keep as many tokens as this rank
        parts.bound(part.kv_budget // part.kv_token)
    lanes = Lanes(TextRunner(parts), TextRunner(parts, is_background=True))
    return NewRunner(lanes, arrays)


def _load_everywhere(
    model: ServedModel, opened: nn.Module, slices: Iterator[None], ranks: Leader
) -> Generator[None, None, list[Loaded]]:
    """Load this rank's part while the others load theirs; returns what they say of them."""
    handle = ranks.load_elsewhere(model, strategy_of(model, opened))
    try:
        yield from slices
        loaded = yield from ranks.wait_for_parts(handle)
    except BaseException:  # the end of this generator, too
        ranks.release(handle)
        raise
    ranks.adopt(opened, handle)
    return loaded


def _load_encoder(
    model: ServedModel, config: EngineConfig, kernels: Kernels
) -> Generator[None, None, NewRunner]:
    encoder = open_encoder(model)
    yield
    arrays = _arrays_of(encoder.parameters())
    yield from evaluate_in_slices(arrays, in_turn=_is_made(model))
    runner = EmbeddingRunner.load(model, config, kernels, encoder)
    return NewRunner(Lanes(runner, runner.behind()), arrays)


def _is_made(model: ServedModel) -> bool:
    """True if the weights are made of larger ones, which are freed one after the other."""
    return bool(model.quantize or model.adapter)


def evaluate_in_slices(arrays: Sequence[mx.array], *, in_turn: bool = False) -> Iterator[None]:
    """Evaluate ``arrays``, as many at once as take a moment; yields after each slice.

    ``in_turn``: one at a time.
    """
    limit, rest = _FIRST_SLICE, list(reversed(arrays))
    while rest:
        limit = 0 if in_turn else limit
        chosen, size = [], 0
        while rest and (not chosen or size + rest[-1].nbytes <= limit):
            size += rest[-1].nbytes
            chosen.append(rest.pop())
        started_at = time.perf_counter()
        mx.eval(chosen)
        seconds = max(time.perf_counter() - started_at, 1e-6)
        limit = min(max(int(size * _SLICE_SECONDS / seconds), 1), 2 * limit, _MAX_SLICE)
        yield


def _arrays_of(parameters: dict) -> list[mx.array]:
    return [array for _, array in tree_flatten(parameters) if isinstance(array, mx.array)]


def _prefix_store(model: ServedModel, config: EngineConfig) -> PrefixStore | None:
    """The model's prefix cache on disk, None if the config has no disk cache."""
    if not config.prefix_cache_disk_gb:
        return None
    return PrefixStore(
        cache_folder() / "prefixes",
        fingerprint(model, config.kv_cache_bits),
        int(config.prefix_cache_disk_gb * 1e9),
        origin_of(model),
    )
