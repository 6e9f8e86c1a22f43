"""Logits of the last position of a prompt alone.

The models of mlx-lm project every position to the vocabulary. For a prompt, that is more work
than all layers of a small model. Inside ``only_at``, a prepared model projects one position of
each row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import mlx.core as mx
from mlx import nn

_HEADS = ("lm_head", "embed_out")  # names of the projection in mlx-lm's models

_positions: ContextVar[Sequence[int] | None] = ContextVar("positions", default=None)


@contextmanager
def only_at(positions: Sequence[int]) -> Iterator[None]:
    """Inside, prepared models return logits [B, 1, V], of one position of each row."""
    token = _positions.set(positions)
    try:
        yield
    finally:
        _positions.reset(token)


def prepare(model: nn.Module) -> bool:
    """Make ``model`` obey ``only_at``; False if its projection has none of the known names."""
    tied = {name for name, module in model.named_modules() if hasattr(module, "as_linear")}
    for name, module in model.named_modules():
        if name.rpartition(".")[0] in tied:
            continue  # the embedding below its adapter, which is narrowed already
        if name in tied:  # an embedding with the same weights
            _narrow(module, "as_linear")
        elif name.rpartition(".")[2] in _HEADS:
            _narrow(module, "__call__")
    with only_at([1]):
        # Only the shape of the logits is needed, so nothing is computed.
        return model(mx.zeros((1, 2), mx.int32)).shape[1] == 1


def _narrow(module: nn.Module, method: str) -> None:
    """Give ``module`` a class of its own, whose ``method`` projects those positions only."""
    whole = type(module)
    if hasattr(whole, "projects_to_vocabulary"):
        return  # prepared already

    def project(self: nn.Module, hidden: mx.array) -> mx.array:
        if (positions := _positions.get()) is not None:
            index = mx.array(list(positions))[:, None, None]
            hidden = mx.take_along_axis(hidden, index, axis=1)
        return getattr(whole, method)(self, hidden)

    namespace = {method: project, "projects_to_vocabulary": True}
    module.__class__ = type(whole.__name__, (whole,), namespace)
