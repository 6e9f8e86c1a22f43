"""Embedding requests as scheduled work: one batch of texts at a time, between decode steps."""

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import mlx.core as mx
import numpy as np

from mlxnode.config.tables import EngineConfig
from mlxnode.engine.embedding.embedder import Embedder
from mlxnode.engine.embedding.encoders import Encoder
from mlxnode.engine.embedding.line import EmbedItem, EmbedRequest
from mlxnode.engine.embedding.queue import EmbeddingQueue
from mlxnode.engine.embedding.scoring.scorer import Scorer
from mlxnode.engine.pacing import Throughput
from mlxnode.engine.work import CANNOT_SERVE, Output, Owner, RequestKey, Runner
from mlxnode.figures import RunnerFigures
from mlxnode.kernels.backend import Kernels
from mlxnode.messages.data import Embed, Embedded, Failed, Generate
from mlxnode.models.served import ServedModel

# Inputs of a batch whose memory is measured. Longer inputs need more, if their attention scores
# are kept.
_MEASURED_ROWS, _MEASURED_LENGTH = 4, 64


class BatchModel(Protocol):
    """A model that computes numbers of token ids: vectors, or scores."""

    def compute(self, batch: Sequence[EmbedItem]) -> list[np.ndarray]:
        """The vector of each item, float32, independent of the other items."""
        ...


class EmbeddingRunner:
    """One embedding model or reranker, and the requests of all workers that wait for it."""

    def __init__(self, model: BatchModel, config: EngineConfig, *, is_background: bool = False):
        self._model = model
        self._is_background = is_background
        self._config = config
        self._queue = EmbeddingQueue()
        self._batch: list[EmbedItem] = []  # being computed
        self._throughput = Throughput()
        self._num_tokens = 0  # since the model was loaded
        self._activations: int | None = None  # None: not measured

    @classmethod
    def load(
        cls,
        model: ServedModel,
        config: EngineConfig,
        kernels: Kernels,
        encoder: Encoder | None = None,
    ) -> "EmbeddingRunner":
        """Load ``model``; its ``encoder`` may be loaded already."""
        if model.type == "rerank":
            return cls(Scorer.load(model, encoder), config)
        return cls(Embedder.load(model, kernels, encoder), config)

    def behind(self) -> "EmbeddingRunner":
        """A runner of the same model for the requests in the background."""
        return EmbeddingRunner(self._model, self._config, is_background=True)

    @property
    def has_work(self) -> bool:
        return len(self._queue) > 0

    @property
    def active(self) -> list[RequestKey]:
        return list(dict.fromkeys(item.request.key for item in self._batch))

    @property
    def step_seconds(self) -> None:
        return None  # no row is ever decoding

    def add(
        self, key: RequestKey, message: Generate | Embed, arrived_at: float | None = None
    ) -> Failed | None:
        """Queue a request, or return why it is refused."""
        if not isinstance(message, Embed):
            return Failed(key.uid, "internal", CANNOT_SERVE)
        if self._queue.is_full_for(message.key, self._config.max_queue_size):
            reason = (
                f"{self._queue.num_requests} requests are already waiting for this model, and "
                "this client has its share of them (engine.max_queue_size); try again later"
            )
            return Failed(key.uid, "overloaded", reason)
        owner = Owner.of(key, message)
        inputs, starts = message.inputs, message.starts
        self._queue.add(key, inputs, message.dimensions, starts, owner, arrived_at)
        return None

    def abort(self, key: RequestKey) -> None:
        self._queue.abort(key)

    def fail(self) -> list[RequestKey]:
        """Drop the requests of the batch whose step raised, and return them."""
        return [request.key for request in self._queue.fail(self._batch)]

    def step(
        self, others: Sequence[Runner] = (), *, is_brief: bool = False
    ) -> Iterator[list[Output]]:
        """Compute one batch. Yields the outputs of the requests that are complete with it."""
        self._batch = self._queue.next_batch(self._batch_tokens(others, is_brief=is_brief))
        yield []  # the loop notes whose batch it is
        started_at = time.perf_counter()
        vectors = self._model.compute(self._batch)
        length = max(len(item.tokens) for item in self._batch)
        self._throughput.observe(length * len(self._batch), time.perf_counter() - started_at)
        self._num_tokens += sum(len(item.tokens) for item in self._batch)
        completed = self._queue.complete(self._batch, vectors)
        self._batch = []
        yield [_output(request) for request in completed]

    @property
    def youngest(self) -> None:
        return None  # as for ``give_up``

    @property
    def is_halted(self) -> bool:
        return True  # a batch is complete within its step

    def halt(self) -> Iterator[list[Output]]:
        yield from ()

    def give_up(self) -> None:
        pass  # a request has no memory between two batches

    def pause(self, is_paused: bool) -> None:
        pass  # one batch at a time is the least that can run

    def drop_caches(self) -> None:
        pass  # there is none

    def reserve_activations(self, available: int, context_length: int) -> int:
        """The bytes to keep free for a batch, from the measured bytes of a small one."""
        if self._activations is None:
            self._activations = self._measure()
        return self._activations

    def measure_passes(self, context_length: int) -> Iterator[None]:
        self._activations = self._measure()
        yield

    @property
    def kv_needed(self) -> int:
        return 0

    def close(self) -> None:
        pass  # it holds its model, and nothing else

    def _measure(self) -> int:
        queue = EmbeddingQueue()
        queue.add(RequestKey(0, 0), [[0] * _MEASURED_LENGTH] * _MEASURED_ROWS)
        mx.synchronize()  # no step of another model may allocate meanwhile
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        self._model.compute(queue.next_batch(_MEASURED_LENGTH * _MEASURED_ROWS))
        size = mx.get_peak_memory() - before
        tokens = max(self._config.embedding_batch_tokens, _MEASURED_LENGTH * _MEASURED_ROWS)
        return size * tokens // (_MEASURED_LENGTH * _MEASURED_ROWS)

    def figures(self) -> RunnerFigures:
        return RunnerFigures(
            num_running=len(self._batch),
            num_waiting=self._queue.num_requests,
            num_background=self._queue.num_requests if self._is_background else 0,
            prompt_tokens=self._num_tokens,
        )

    def do_idle_work(self) -> bool:
        return False

    def _batch_tokens(self, others: Sequence[Runner], *, is_brief: bool) -> int:
        """The maximum number of tokens in a batch, with padding.

        While rows are decoding, a batch takes no longer than a decode step, so both get half
        of the device. A brief batch takes no longer than a stall.
        """
        limit, stall = self._config.embedding_batch_tokens, self._config.prefill_stall_ms / 1000
        steps = [other.step_seconds for other in others]
        longest = max((seconds for seconds in steps if seconds is not None), default=None)
        if longest is not None or is_brief:
            seconds = stall if longest is None else min(stall, longest)
            limit = min(limit, self._throughput.tokens_in(seconds))
        return limit


def _output(request: EmbedRequest) -> Output:
    pipe_id, uid = request.key
    matrix = np.stack(request.vectors).astype("<f4")  # [N, D]
    if not np.isfinite(matrix).all():
        return Output(pipe_id, Failed(uid, "internal", "the model's vectors are not finite"))
    embedded = Embedded(uid, matrix.shape[1], matrix.tobytes(), request.timing)
    return Output(pipe_id, embedded)
