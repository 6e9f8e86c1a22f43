"""Whether prompts of unequal lengths can run in one pass, padded on the right."""

import mlx.core as mx
from mlx import nn
from mlx_lm.models.cache import ArraysCache

from mlxnode.engine.kvcache.batch import BatchCache
from mlxnode.engine.kvcache.prompt_cache import (
    PromptCache,
    evaluate,
    flat_layers,
    new_prompt_cache,
)
from mlxnode.engine.kvcache.separate import is_batchable
from mlxnode.engine.mirror import mirrored

_LENGTHS = 2, 5  # tokens of the prompts that are tried
_TOLERANCE = 0.1  # of the size of a state: padding changes it as a whole, rounding does not


@mirrored
def can_pad(model: nn.Module) -> bool:
    """True if padding after a prompt leaves its cache as it is.

    Keys of padding are masked, or overwritten. Whether a model skips padding in its states is
    tried: runs the model on a few tokens if it has states.
    """
    if not is_batchable(model):
        return False
    caches = [new_prompt_cache(model) for _ in _LENGTHS]
    if not any(isinstance(layer, ArraysCache) for layer in flat_layers(caches[0])):
        return True
    tokens = mx.arange(1, 1 + max(_LENGTHS))[None]
    batch = BatchCache(width=max(_LENGTHS))
    batch.join(caches, [0] * len(caches))
    mx.eval(batch.run(model, mx.repeat(tokens, len(caches), axis=0), _LENGTHS))
    batch.advance(_LENGTHS)
    padded, alone = batch.extract(0, _LENGTHS[0]), new_prompt_cache(model)
    evaluate(alone, model(tokens[:, : _LENGTHS[0]], cache=alone))
    return _are_close(_states_of(padded), _states_of(alone))


def _states_of(cache: PromptCache) -> list[mx.array]:
    layers = flat_layers(cache)
    states = (s for layer in layers if isinstance(layer, ArraysCache) for s in layer.cache)
    return [state.astype(mx.float32) for state in states if state is not None]


def _are_close(some: list[mx.array], others: list[mx.array]) -> bool:
    return [a.shape for a in some] == [b.shape for b in others] and all(
        bool(mx.linalg.norm(a - b) <= _TOLERANCE * mx.linalg.norm(b))
        for a, b in zip(some, others, strict=True)
    )
