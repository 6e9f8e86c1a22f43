"""All forward passes of a text model: a chunk of a prompt, several prompts, a decode step.

They are all that the ranks of a distributed engine compute (``engine/mirror.py``), so each pass
says what it evaluates.
"""

import contextlib
from collections.abc import Sequence

import mlx.core as mx
from mlx import nn

from mlxnode.engine.decode import projection
from mlxnode.engine.kvcache.batch import BatchCache
from mlxnode.engine.kvcache.prompt_cache import (
    PromptCache,
    evaluate,
    release_activations,
    runs_to_the_end,
)
from mlxnode.engine.kvcache.separate import SeparateRows
from mlxnode.engine.mirror import mirrored

Rows = BatchCache | SeparateRows


@mirrored
def run_chunk(
    model: nn.Module,
    cache: PromptCache,
    ids: Sequence[int],
    position: int | None,
    *,
    is_last: bool,
) -> mx.array:
    """Run on a chunk of one prompt; returns the logits [1, V] of the token at ``position``.

    ``position`` None: of all its tokens, [L, V]. Without it, and before the last chunk, the
    logits are lazy: nobody needs them.
    """
    chunk = mx.array([ids], mx.int32)
    with contextlib.nullcontext() if position is None else projection.only_at([position]):
        logits = model(chunk, cache=cache)[0]  # [1 or L, V]
    if position is not None:
        logits = logits[-1:]
    release_activations(cache)
    is_needed = is_last or position is None or runs_to_the_end(model)
    evaluate(cache, logits if is_needed else None)
    return logits


@mirrored
def run_prompts(batch: BatchCache, model: nn.Module, ids: Sequence[Sequence[int]]) -> mx.array:
    """Run on the rest of several prompts, the rows of ``batch``, padded on the right.

    Returns the logits [B, V] of the last token of each.
    """
    counts = list(map(len, ids))
    padded = mx.array([[*row, *[0] * (max(counts) - len(row))] for row in ids], mx.int32)
    with projection.only_at([count - 1 for count in counts]):
        logits = batch.run(model, padded, counts)[:, 0]
    mx.eval(logits)
    batch.advance(counts)
    return logits


@mirrored
def begin_step(rows: Rows, model: nn.Module, tokens: mx.array) -> mx.array:
    """Launch the first half of a decode step on the last token of each row, [B].

    Returns the lazy logits [B, V]. ``finish_step`` launches the rest.
    """
    rows.reserve(1)
    halfway = rows.halfway
    has_halves = not runs_to_the_end(model)  # the first one of a rank is another's second one
    if not has_halves:
        evaluate(rows.layers)
    logits = rows.run(model, tokens[:, None])[:, -1]
    rows.advance([1] * len(rows.lengths))
    rows.logits = logits
    if rows.halfway is None or not has_halves:
        mx.async_eval(logits)  # nothing is written in place, or the last pass is complete
    else:
        if halfway is not None:
            mx.eval(halfway)
        mx.async_eval(rows.halfway)
    return logits


@mirrored
def finish_step(rows: Rows) -> None:
    """Launch the rest of the step that was begun."""
    mx.async_eval(rows.logits)
    rows.logits = None


@mirrored
def run_drafts(rows: Rows, model: nn.Module, ids: list[list[int]]) -> mx.array:
    """Launch a pass on the last token and the draft tokens of each row, [B, N].

    Returns the logits [B, N, V]. The caller keeps the tokens that are right (``advance``).
    """
    rows.reserve(len(ids[0]))
    logits = rows.run(model, mx.array(ids, mx.int32))
    mx.async_eval(logits)
    return logits
