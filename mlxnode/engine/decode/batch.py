"""The running rows of one model. Plain calls: join, leave, forward, sample, read.

``forward`` launches the first half of a pass, ``sample`` the second half and the sampling. In
between, the host reads and emits the tokens of the previous step while the device computes. So
a row that ends is noticed one step late; its surplus token is dropped.

A half is launched when the same half of the previous pass is complete: work in flight that
reads the keys and values of a layer would make MLX copy them all (docs/kv-updates.md).
"""

from collections.abc import Sequence

import mlx.core as mx
from mlx import nn

from mlxnode.engine.decode import passes
from mlxnode.engine.decode.pending_step import PendingStep
from mlxnode.engine.decode.request import Request
from mlxnode.engine.decode.sampling import Sampler, adjustments_of, columns_of
from mlxnode.engine.kvcache.prompt_cache import PromptCache
from mlxnode.engine.kvcache.separate import new_batch_cache
from mlxnode.engine.work import Output
from mlxnode.kernels.sample import Adjustments, SamplingColumns


class Batch:
    """Rows of requests with their KV cache and their sampling parameters."""

    def __init__(self, model: nn.Module, sampler: Sampler, num_draft_tokens: int = 0):
        """``num_draft_tokens`` is the maximum length of a draft."""
        self._model = model
        self._width = 1 + num_draft_tokens
        self._sampler = sampler
        self.clear()

    def clear(self) -> None:
        """Remove all rows, and the tokens that are not read."""
        self._cache = new_batch_cache(self._model, self._width)
        self.rows: list[Request] = []  # in the order of the rows of the KV cache
        self._inputs = mx.zeros(0, mx.int32)  # the last token of each row, read or not, [B]
        self._columns: SamplingColumns | None = None  # None: the rows have changed
        self._adjustments: Adjustments | None = None
        self._logits: mx.array | None = None  # of a forward pass that is not sampled yet
        self.pending: PendingStep | None = None  # sampled, but not read

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> list[int]:
        """Tokens in the KV cache of each row. It may have one more token than was read."""
        return self._cache.lengths

    @property
    def capacity(self) -> tuple[int, int]:
        """The slots and the positions that the KV cache has allocated."""
        return self._cache.capacity

    @property
    def can_verify(self) -> bool:
        """True if ``verify`` is possible: wrong draft tokens can be removed from the cache."""
        return self._cache.can_rewind

    def join(self, requests: Sequence[Request]) -> None:
        """Append rows. Each request has a KV cache of all its tokens but the last."""
        self._cache.join(
            [request.own_cache for request in requests],
            [len(request.context) for request in requests],
        )
        for request in requests:
            request.cache = None
        tokens = mx.array([request.tokens[-1] for request in requests], mx.int32)
        self._inputs = mx.concatenate([self._inputs, tokens]) if self.rows else tokens
        self.rows += requests
        self._columns = None

    def leave(self, requests: Sequence[Request]) -> None:
        """Remove the rows of ``requests``."""
        indices = [i for i, request in enumerate(self.rows) if request in requests]
        kept = self._cache.leave(indices)
        self.rows = [self.rows[i] for i in kept]
        if self.rows:
            self._inputs = self._inputs[mx.array(kept)]
        self._columns = None

    def forward(self) -> None:
        """Launch the first half of the forward pass on the last token of each row."""
        self._logits = passes.begin_step(self._cache, self._model, self._inputs)

    def sample(self, started_at: float) -> None:
        """Launch the rest, after ``read``. The step started at ``started_at``."""
        if self._logits is None or self.pending is not None:
            raise RuntimeError("sample comes after forward and read")
        passes.finish_step(self._cache)  # before the host computes what sampling needs
        if self._columns is None:
            self._columns = columns_of(self.rows)
            self._adjustments = adjustments_of(self.rows)
        elif any(request.changes_adjustments for request in self.rows):
            self._adjustments = adjustments_of(self.rows)
        sampled = self._sampler.launch(
            self.rows, self._logits, self._columns, self._adjustments
        )
        self._logits = None
        for request in self.rows:
            request.num_sampled += 1
        self._inputs = sampled.tokens
        self.pending = PendingStep(list(self.rows), sampled, started_at=started_at)

    def verify(self, drafts: Sequence[Sequence[int]], started_at: float) -> None:
        """Launch one forward pass on the last token and the draft tokens of each row.

        One token is sampled after each of them: with correct draft tokens before it, it is
        the token that a step without drafts would sample. All earlier tokens must be read.
        """
        width = 1 + max(map(len, drafts))
        padded = [
            [request.tokens[-1], *draft, *[0] * width][:width]
            for request, draft in zip(self.rows, drafts, strict=True)
        ]
        logits = passes.run_drafts(self._cache, self._model, padded)
        rows = [request for request in self.rows for _ in range(width)]
        ahead = [*range(width)] * len(self.rows)
        columns, adjustments = columns_of(rows), adjustments_of(rows)
        sampled = self._sampler.launch(rows, logits.flatten(0, 1), columns, adjustments, ahead)
        self.pending = PendingStep(list(self.rows), sampled, drafts, started_at=started_at)

    def read(self) -> list[Output]:
        """Wait for the sampled tokens, and return the output of each row."""
        if self.pending is None:
            return []
        step, self.pending = self.pending, None
        outputs = step.read()
        if step.drafts is not None:
            self._keep_accepted()
        return outputs

    def extract(self, request: Request, length: int) -> PromptCache:
        """A copy of the cache of a row's first tokens.

        Layers that cannot be cut are copied at the current length of the row.
        """
        return self._cache.extract(self.rows.index(request), length)

    def _keep_accepted(self) -> None:
        """Keep the accepted tokens in the KV cache. The next pass overwrites the others."""
        self._cache.advance([len(r.tokens) - r.num_sampled for r in self.rows])
        for request in self.rows:
            request.num_sampled = len(request.tokens)
        self._inputs = mx.array([request.tokens[-1] for request in self.rows], mx.int32)
