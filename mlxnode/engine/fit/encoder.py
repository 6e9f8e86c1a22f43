"""What an embedding model needs: it has no KV cache, and its batches have a limit of tokens."""

from collections.abc import Sequence

import mlx.core as mx
from mlx.utils import tree_unflatten

from mlxnode.engine.embedding.encoders import Encoder
from mlxnode.engine.fit.graph import named_arrays, trace
from mlxnode.engine.fit.peak import peak_bytes
from mlxnode.models.fit import Activations, KVBytes, MemoryNeeds

_SHORT = 128  # tokens of an input; its batch has as many tokens as that of a long input


def encoder_needs(encoder: Encoder, max_length: int, batch_tokens: int) -> MemoryNeeds:
    """What ``encoder`` needs for the largest batches of short and of long inputs."""
    weights = named_arrays(encoder.parameters())
    names = [name for name, _ in weights]

    def run(*arrays: mx.array) -> Sequence[mx.array]:
        encoder.update(tree_unflatten(list(zip(names, arrays[:-1], strict=True))))
        ids = arrays[-1]
        return [encoder(ids, mx.full((ids.shape[0],), ids.shape[1]))]

    def activations(length: int) -> Activations:
        ids = mx.zeros((max(batch_tokens // length, 1), length), mx.int32)
        try:
            graph = trace(run, [*(array for _, array in weights), ids])
        finally:
            encoder.update(tree_unflatten(weights))
        peak = peak_bytes(graph, graph.inputs[: len(weights)])
        return Activations(max_length, peak - size, 0)

    size = sum(array.nbytes for _, array in weights)
    short, long = activations(min(_SHORT, max_length)), activations(max_length)
    larger = max(short, long, key=lambda found: found.prefill)
    return MemoryNeeds(size, KVBytes(), (larger, larger))
