"""The cache of one sequence."""

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, CacheList

from mlxnode.engine.kvcache.prompt_cache import evaluate, release_activations


def test_states_do_not_hold_the_activations_that_they_are_the_end_of():
    inner = ArraysCache(2)
    cache = [CacheList(inner)]
    before = mx.get_active_memory()
    activations = mx.ones((1, 4096, 256))
    mx.eval(activations)
    inner.cache = [None, activations[:, -3:]]
    release_activations(cache)
    evaluate(cache)
    del activations
    assert mx.get_active_memory() - before < 4096 * 256  # bytes; a quarter of the activations
    assert inner[0] is None and inner[1].shape == (1, 3, 256) and inner[1].sum().item() == 768
