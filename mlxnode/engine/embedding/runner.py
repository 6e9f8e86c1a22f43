"""Embedding requests as scheduled work: one batch of texts at a time, between decode steps."""

import time

import numpy as np

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.decode.request import RequestKey
from mlxnode.engine.decode.scheduler import Refusal, Throughput
from mlxnode.engine.embedding.embedder import Embedder
from mlxnode.engine.embedding.queue import EmbeddingQueue, EmbedItem
from mlxnode.kernels.backend import Kernels
from mlxnode.messages import Embed, Embedded, Failed
from mlxnode.models.served import ServedModel


class EmbeddingRunner:
    """One embedding model, and the requests of every worker that wait for it."""

    def __init__(self, embedder: Embedder, config: EngineConfig):
        self._embedder = embedder
        self._config = config
        self._queue = EmbeddingQueue()
        self._batch: list[EmbedItem] = []  # being computed
        self._throughput = Throughput()

    @classmethod
    def load(
        cls, model: ServedModel, config: EngineConfig, kernels: Kernels
    ) -> "EmbeddingRunner":
        return cls(Embedder.load(model, kernels), config)

    @property
    def has_work(self) -> bool:
        return len(self._queue) > 0

    def add(self, key: RequestKey, message: Embed) -> Refusal | None:
        """Queue a request, or say why it is refused."""
        if self._queue.num_requests >= self._config.max_queue_size:
            return Refusal("overloaded", f"{self._queue.num_requests} requests are waiting")
        self._queue.add(key, message.inputs, message.dimensions)
        return None

    def abort(self, key: RequestKey) -> None:
        self._queue.abort(key)

    def fail(self) -> list[RequestKey]:
        """Drop the requests of the batch whose step raised, and return them."""
        return [request.key for request in self._queue.fail(self._batch)]

    def step(
        self, *, decode_seconds: float | None
    ) -> list[tuple[RequestKey, Embedded | Failed]]:
        """Compute one batch; returns the answers of the requests that are whole with it.

        While texts are being generated, in steps of ``decode_seconds``, the batch is only as
        large as fits in the time of a step: both get half of the device.
        """
        limit = self._config.embedding_batch_tokens
        if decode_seconds is not None:
            stall = min(self._config.prefill_stall_ms / 1000, decode_seconds)
            limit = min(limit, self._throughput.tokens_in(stall))
        self._batch = self._queue.next_batch(limit)
        started = time.perf_counter()
        vectors = self._embedder.embed(
            [item.tokens for item in self._batch], [item.dimensions for item in self._batch]
        )
        length = max(len(item.tokens) for item in self._batch)
        self._throughput.observe(length * len(self._batch), time.perf_counter() - started)
        return [
            (request.key, _answer(request.key, request.vectors))
            for request in self._queue.complete(self._batch, vectors)
        ]


def _answer(key: RequestKey, vectors: list[np.ndarray]) -> Embedded | Failed:
    matrix = np.stack(vectors).astype("<f4")  # [N, D]
    if not np.isfinite(matrix).all():
        return Failed(key[1], "internal", "the model's vectors are not finite")
    return Embedded(key[1], matrix.shape[1], matrix.tobytes())
