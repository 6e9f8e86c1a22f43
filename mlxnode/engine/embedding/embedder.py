"""A loaded embedding model: token ids of several inputs in, one vector for each out."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlxnode.engine.embedding.encoders import Encoder, load_encoder
from mlxnode.engine.embedding.encoders.activations import TORCH_ACTIVATIONS
from mlxnode.engine.embedding.encoders.checkpoint import read_safetensors, set_weights
from mlxnode.engine.embedding.line import EmbedItem
from mlxnode.engine.embedding.queue import pad
from mlxnode.errors import ModelError
from mlxnode.kernels.backend import OPS, Kernels
from mlxnode.kernels.pool import PoolingColumns, PoolingMode, finish
from mlxnode.models.sentence.config import SentenceConfig, read_sentence_config
from mlxnode.models.sentence.modules import DenseConfig
from mlxnode.models.served import ServedModel


class Embedder:
    """Encoder, pooling, and the layers after pooling. Used by the thread that loaded them."""

    def __init__(
        self,
        encoder: Encoder,
        config: SentenceConfig,
        dense: Sequence["Dense"],
        dimensions: int,
        kernels: Kernels = OPS,
    ):
        self.dimensions = dimensions
        self._pool = kernels.pool
        self._encoder = encoder
        self._config = config
        self._dense = dense
        if kernels.warm is not None:
            # Only the dtype of the hidden states is needed, so nothing is computed.
            hidden = encoder(mx.zeros((1, 1), mx.int32), mx.array([1]))
            kernels.warm(pooling=[hidden.dtype])

    @classmethod
    def load(
        cls, served: ServedModel, kernels: Kernels = OPS, encoder: Encoder | None = None
    ) -> "Embedder":
        """Load ``served``, an embedding model; its ``encoder`` may be loaded already.

        Raises:
            ModelError: the folder cannot be read, or needs an option that is not supported.
        """
        config = read_sentence_config(served.folder)
        dimensions = served.dimensions or config.dimensions
        if dimensions > config.dimensions:
            raise ModelError(
                f"{served.id}: dimensions must be at most {config.dimensions}, got {dimensions}"
            )
        dense = [Dense(layer) for layer in config.dense]
        mx.eval([layer.parameters() for layer in dense])
        return cls(encoder or load_encoder(served), config, dense, dimensions, kernels)

    def compute(self, batch: Sequence[EmbedItem]) -> list[np.ndarray]:
        """The vectors of a batch."""
        return self.embed([item.tokens for item in batch], [item.dimensions for item in batch])

    def embed(
        self, inputs: Sequence[list[int]], dimensions: Sequence[int | None]
    ) -> list[np.ndarray]:
        """The vectors of ``inputs``, token ids that contain the special tokens.

        A vector is cut to its entry of ``dimensions`` (by default the served size), then
        normalised. The vector of an input does not depend on the other inputs.

        Shapes:
            N inputs of at least one token, N dimensions -> N arrays [dimensions] float32
        """
        ids, lengths = pad(inputs)
        sizes = [size or self.dimensions for size in dimensions]
        hidden = self._encoder(mx.array(ids), mx.array(lengths))  # [B, L, hidden_size]
        vectors = np.array(self._vectors(hidden, lengths, sizes))
        return [vector[:size] for vector, size in zip(vectors, sizes, strict=True)]

    def _vectors(self, hidden: mx.array, lengths: list[int], sizes: list[int]) -> mx.array:
        B, _, D = hidden.shape
        modes: list[PoolingMode] = [self._config.pooling] * B
        normalize = self._config.normalize
        if not self._dense:
            columns = PoolingColumns.of(lengths, modes, sizes)
            return self._pool(hidden, columns, normalize=normalize)
        columns = PoolingColumns.of(lengths, modes, [D] * B)
        vectors = self._pool(hidden, columns, normalize=False)
        for layer in self._dense:
            vectors = layer(vectors)
        return finish(vectors, mx.array(sizes), normalize=normalize)


class Dense(nn.Module):
    """A ``Dense`` module of sentence-transformers, in float32 as the pooled vector."""

    def __init__(self, config: DenseConfig):
        super().__init__()
        self.linear = nn.Linear(config.in_features, config.out_features, bias=config.bias)
        self._activation = TORCH_ACTIVATIONS[config.activation]
        set_weights(self, read_safetensors(config.weights.parent), config.weights)
        self.set_dtype(mx.float32)

    def __call__(self, x: mx.array) -> mx.array:
        return self._activation(self.linear(x))
