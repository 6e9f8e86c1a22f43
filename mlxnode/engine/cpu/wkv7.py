"""The recurrence of RWKV 7 on the CPU, in chunks like the gated delta rule.

S = S (diag(w) + a b^T) + v k^T; y = S r. The decays w of the models are above 0.54
(exp(-0.6065)), and so those of a chunk are above 1e-9: the decay between two tokens may be a
quotient, and the scores of a chunk are matrix products.
"""

from typing import Any, NamedTuple

import mlx.core as mx

from mlxnode.engine.cpu.abridged import num_left_out
from mlxnode.engine.cpu.gated_delta import segments

_CHUNK = 32  # tokens
_MOST_CHUNKS = 8  # of a segment
_NUM_TRACED = 3  # segments that a trace shows; the others need as much memory


class _Chunks(NamedTuple):
    """What N chunks of C tokens do, whatever the state before them; [B, H, N, ...]."""

    reads: mx.array  # [C, D] what a reads, without the state
    a: mx.array  # [C, D] keys under which a reads the state
    y: mx.array  # [C, D] the result, without the state
    r: mx.array  # [C, D] keys under which r reads the state
    scores: mx.array  # [C, C] what r reads of what a has read
    b: mx.array  # [C, D] keys of what a has read, as they are at the end
    written: mx.array  # [D, D] what v and k write, as it is at the end
    kept: mx.array  # [1, D] what the end keeps of the state


def wkv7(
    self: Any,
    r: mx.array,
    w: mx.array,
    k: mx.array,
    v: mx.array,
    a: mx.array,
    b: mx.array,
    state: mx.array | None,
) -> tuple[mx.array, mx.array]:
    """The method ``_wkv7`` of ``mlx_lm.models.rwkv7``.

    Shapes:
        r, w, k, v, a, b: [B, T, H, D]; state: [B, H, D, D] -> y: [B, T, H, D], state
    """
    B, T, H, D = r.shape
    if state is None:
        state = mx.zeros((B, H, D, D), r.dtype)
    if T == 1:
        return _step(state, *(x[:, 0, :, None] for x in (r, w, k, v, a, b)))
    arrays = [x.transpose(0, 2, 1, 3) for x in (r, w, k, v, a, b)]  # [B, H, T, D]
    parts = list(segments(T, _CHUNK, _MOST_CHUNKS))
    left_out = num_left_out(len(parts), _NUM_TRACED)
    ys = [mx.zeros((B, H, parts[left_out][0], D), r.dtype)] if left_out else []
    for start, end, length in parts[left_out:]:
        chunks = _prepare(*(x[:, :, start:end].reshape(B, H, -1, length, D) for x in arrays))
        for n in range((end - start) // length):
            y, state = _advance(_Chunks(*(x[:, :, n] for x in chunks)), state)
            ys.append(y)
    return mx.concatenate(ys, axis=2).transpose(0, 2, 1, 3).astype(r.dtype), state


def _step(
    state: mx.array,
    r: mx.array,
    w: mx.array,
    k: mx.array,
    v: mx.array,
    a: mx.array,
    b: mx.array,
) -> tuple[mx.array, mx.array]:
    """One token. Shapes: state: [B, H, D, D]; the others: [B, H, 1, D]."""
    read = a @ state.swapaxes(-1, -2)
    columns = mx.concatenate([read, v], axis=-2).swapaxes(-1, -2)  # [.., D, 2]
    state = mx.addmm(state * w, columns, mx.concatenate([b, k], axis=-2))
    return (r @ state.swapaxes(-1, -2)).swapaxes(1, 2).astype(r.dtype), state


def _advance(chunk: _Chunks, state: mx.array) -> tuple[mx.array, mx.array]:
    """Read and write the state [B, H, D, D] once for a chunk."""
    before = state.swapaxes(-1, -2)
    read = chunk.reads + chunk.a @ before  # [.., C, D]
    y = chunk.y + chunk.r @ before + chunk.scores @ read
    return y, state * chunk.kept + chunk.written + read.swapaxes(-1, -2) @ chunk.b


def _prepare(
    r: mx.array, w: mx.array, k: mx.array, v: mx.array, a: mx.array, b: mx.array
) -> _Chunks:
    """Shapes: [B, H, N, C, D]."""
    C = r.shape[-2]
    order = mx.arange(C)
    is_earlier, is_seen = order[:, None] > order, order[:, None] >= order  # [C, C]
    decays = mx.cumprod(w, axis=-2)
    kept = decays[..., -1:, :]
    r, a = r * decays, a * decays / w
    k, b = k / decays, b / decays
    system = mx.eye(C) - mx.where(is_earlier, a @ b.swapaxes(-1, -2), 0)
    solved = mx.linalg.tri_inv(system, stream=mx.cpu)
    of_v = mx.where(is_earlier, a @ k.swapaxes(-1, -2), 0) @ v
    return _Chunks(
        reads=solved @ of_v,
        a=solved @ a,
        y=mx.where(is_seen, r @ k.swapaxes(-1, -2), 0) @ v,
        r=r,
        scores=mx.where(is_seen, r @ b.swapaxes(-1, -2), 0),
        b=b * kept,
        written=v.swapaxes(-1, -2) @ (k * kept),
        kept=kept,
    )
