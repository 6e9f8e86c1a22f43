"""A loaded reranker: token ids of several pairs in, one score for each out."""

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from mlxnode.engine.embedding.encoders import Encoder, load_encoder
from mlxnode.engine.embedding.encoders.activations import TORCH_ACTIVATIONS
from mlxnode.engine.embedding.encoders.bert import Bert
from mlxnode.engine.embedding.line import EmbedItem
from mlxnode.engine.embedding.queue import pad
from mlxnode.engine.embedding.scoring.heads import Head, load_head
from mlxnode.models.rerank.config import read_reranker_config
from mlxnode.models.served import ServedModel


class Scorer:
    """Encoder, head, and the activation of the score. Used by the thread that loaded them."""

    def __init__(
        self, encoder: Encoder, head: Head, activation: Callable[[mx.array], mx.array]
    ):
        self._encoder = encoder
        self._head = head
        self._activation = activation

    @classmethod
    def load(cls, served: ServedModel, encoder: Encoder | None = None) -> "Scorer":
        """Load ``served``, a reranker; its ``encoder`` may be loaded already.

        Raises:
            ModelError: the folder cannot be read, or needs an option that is not supported.
        """
        config = read_reranker_config(served.folder)
        encoder = encoder or load_encoder(served)
        head = load_head(served, config, encoder)
        return cls(encoder, head, TORCH_ACTIVATIONS[config.activation])

    def compute(self, batch: Sequence[EmbedItem]) -> list[np.ndarray]:
        """The score of each pair, which does not depend on the other pairs.

        Shapes:
            N pairs of at least one token -> N arrays [1] float32
        """
        ids, lengths = pad([item.tokens for item in batch])
        hidden = self._encode(ids, lengths, [item.start for item in batch])
        logits = self._head(hidden.astype(mx.float32), mx.array(lengths))  # [B, L, D] -> [B]
        return list(np.array(self._activation(logits))[:, None])

    def _encode(
        self, ids: np.ndarray, lengths: list[int], starts: Sequence[int | None]
    ) -> mx.array:
        if not isinstance(self._encoder, Bert) or self._encoder.num_types < 2 or None in starts:
            return self._encoder(mx.array(ids), mx.array(lengths))
        B, L = ids.shape
        types = np.arange(L)[None] >= np.array(starts).reshape(B, 1)  # [B, L]
        return self._encoder(mx.array(ids), mx.array(lengths), mx.array(types.astype(np.int32)))
