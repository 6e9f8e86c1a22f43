"""The gated delta rule on the CPU, many tokens in one product.

A state S (a matrix for each head) is read and written by each token:
S' = g S; S = S' + beta (v - S' k) k^T; y = S q. mlx-lm computes this token by token where it
has no Metal kernel. Here the tokens of a chunk are computed together (Yang et al., "Gated Delta
Networks", arXiv:2412.06464): what they write is the solution of a triangular system, which does
not need the state. The state is then read and written once for each chunk.

Decays between two tokens of a chunk are products of the gates between them. They are never
divided by each other: strong decays become zero, and nothing overflows.
"""

from collections.abc import Iterator
from typing import NamedTuple

import mlx.core as mx

from mlxnode.engine.cpu.abridged import num_left_out

# Tokens of a chunk. With a gate for each key dimension, decays need C * C * Dk numbers.
_CHUNK, _CHUNK_OF_VECTORS = 32, 16
_SEGMENT = 1 << 20  # decays computed at once, so that they stay in the processor's cache
_MOST_CHUNKS = 8  # of a segment: more do not make it faster
_NUM_TRACED = 3  # segments that a trace shows; the others need as much memory


class _Chunks(NamedTuple):
    """What N chunks of C tokens do, whatever the state before them; [B, K, R, N, ...]."""

    values: mx.array  # [C, Dv] what the tokens write, without the state
    erased: mx.array  # [C, Dk] keys under which they erase it
    queries: mx.array  # [C, Dk] keys under which they read it
    scores: mx.array  # [C, C] what they read of each other
    keys: mx.array  # [C, Dk] keys of what they write, as they are at the end
    kept: mx.array  # [1, 1 or Dk] what the end keeps of the state


def gated_delta(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    g: mx.array,
    beta: mx.array,
    state: mx.array | None = None,
    mask: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """``mlx_lm.models.gated_delta.gated_delta_ops``, computed in float32.

    Tokens that ``mask`` hides leave the state as it is; their ``y`` has no meaning.

    Shapes:
        q, k: [B, T, K, Dk]; v: [B, T, H, Dv], H a multiple of K; g: [B, T, H] or
        [B, T, H, Dk], from 0 to 1; beta: [B, T, H]; state: [B, H, Dv, Dk] float32;
        mask: [B, T] bool -> y: [B, T, H, Dv] as q, state
    """
    B, T, K, Dk = q.shape
    H, Dv = v.shape[-2:]
    g = g.reshape(B, T, H, -1)
    beta = beta[..., None]
    if mask is not None:
        g = mx.where(mask[..., None, None], g, 1)
        beta = mx.where(mask[..., None, None], beta, 0)
    if state is None:
        state = mx.zeros((B, H, Dv, Dk), mx.float32)
    if T == 1:
        return _step(q, k, v, g, beta, state)
    # The R = H // K heads that share keys are beside each other: [B, K, R, T, D].
    arrays = [
        x.astype(mx.float32).reshape(B, T, K, -1, x.shape[-1]).transpose(0, 2, 3, 1, 4)
        for x in (q, k, v, g, beta)
    ]
    y, state = _in_segments(arrays, state.reshape(B, K, -1, Dv, Dk))
    y = y.transpose(0, 3, 1, 2, 4).reshape(B, T, H, Dv)
    return y.astype(q.dtype), state.reshape(B, H, Dv, Dk)


def segments(num_tokens: int, chunk: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Start, end and the length of a chunk, of segments of at most ``count`` equal chunks."""
    whole = num_tokens - num_tokens % chunk
    for start in range(0, whole, count * chunk):
        yield start, min(start + count * chunk, whole), chunk
    if whole < num_tokens:
        yield whole, num_tokens, num_tokens - whole


def _step(
    q: mx.array, k: mx.array, v: mx.array, g: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """One token: T is 1; g: [B, 1, H, 1 or Dk]; beta: [B, 1, H, 1]."""
    dtype, repeats = q.dtype, v.shape[2] // q.shape[2]
    if repeats > 1:
        q, k = mx.repeat(q, repeats, 2), mx.repeat(k, repeats, 2)
    q, k, v, g, beta = (x[:, 0, :, None] for x in (q, k, v, g, beta))  # [B, H, 1, D]
    state = state * g
    written = (v - k @ state.swapaxes(-1, -2)) * beta  # [B, H, 1, Dv]
    state = mx.addmm(state, written.swapaxes(-1, -2), k)
    return (q @ state.swapaxes(-1, -2)).swapaxes(1, 2).astype(dtype), state


def _in_segments(arrays: list[mx.array], state: mx.array) -> tuple[mx.array, mx.array]:
    """Shapes: arrays q, k, v, g, beta: [B, K, R, T, D]; state: [B, K, R, Dv, Dk]."""
    _, _, v, g, _ = arrays
    B, K, R, T, size = g.shape
    chunk = _CHUNK if size == 1 else _CHUNK_OF_VECTORS
    count = min(max(_SEGMENT // (B * K * R * chunk * chunk * size), 1), _MOST_CHUNKS)
    spans = list(segments(T, chunk, count))
    left_out = num_left_out(len(spans), _NUM_TRACED)
    parts = []
    if left_out:
        parts.append(mx.zeros((B, K, R, spans[left_out][0], v.shape[-1])))
    for start, end, length in spans[left_out:]:
        segment = (
            x[:, :, :, start:end].reshape(*x.shape[:3], -1, length, x.shape[-1]) for x in arrays
        )
        chunks = _prepare(*segment)
        for n in range((end - start) // length):
            y, state = _advance(_Chunks(*(x[:, :, :, n] for x in chunks)), state)
            parts.append(y)
    return mx.concatenate(parts, axis=3), state


def _advance(chunk: _Chunks, state: mx.array) -> tuple[mx.array, mx.array]:
    """Read and write the state [B, K, R, Dv, Dk] once for a chunk."""
    before = state.swapaxes(-1, -2)
    written = chunk.values - chunk.erased @ before  # [.., C, Dv]
    y = chunk.queries @ before + chunk.scores @ written
    return y, state * chunk.kept + written.swapaxes(-1, -2) @ chunk.keys


def _prepare(q: mx.array, k: mx.array, v: mx.array, g: mx.array, beta: mx.array) -> _Chunks:
    """Shapes: [B, K, R, N, C, D], R of q and k is 1."""
    C = q.shape[-2]
    order = mx.arange(C)
    is_earlier = order[:, None] > order  # [C, C]
    if g.shape[-1] == 1:
        # Row i, column j: the product of the gates after j, up to i.
        decays = mx.cumprod(mx.where(is_earlier, g, 1), axis=-2)  # [.., C, C]
        since_start = decays[..., :1] * g[..., :1, :]
        until_end = decays[..., -1:, :].swapaxes(-1, -2)
        keys = k.swapaxes(-1, -2)
        k_scores, q_scores = (k @ keys) * decays, (q @ keys) * decays
    else:
        gates = mx.where(is_earlier[..., None], g[..., None, :], 1)
        decays = mx.cumprod(gates, axis=-3)  # [.., C, C, Dk]
        since_start = decays[..., 0, :] * g[..., :1, :]
        until_end = decays[..., -1, :, :]
        scores = (decays * k[..., None, :, :]) @ mx.stack([k, q], axis=-1)
        k_scores, q_scores = scores[..., 0], scores[..., 1]
    system = mx.where(is_earlier, beta * k_scores, mx.eye(C))
    solved = mx.linalg.tri_inv(system, stream=mx.cpu)
    return _Chunks(
        values=solved @ (beta * v),
        erased=solved @ (beta * since_start * k),
        queries=since_start * q,
        scores=mx.where(order[:, None] >= order, q_scores, 0),
        keys=until_end * k,
        kept=since_start[..., -1:, :],
    )
