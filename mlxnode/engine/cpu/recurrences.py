"""Recurrences of mlx-lm's models that are loops over the tokens, on the CPU.

What does not need the state is computed for many tokens at once, and no more than some
megabytes of states exist together. mlx-lm's loops keep the states of a whole chunk of a
prompt, or take many operations for each token. Traces show a few tokens.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models.activations import swiglu

from mlxnode.engine.cpu.abridged import num_left_out
from mlxnode.kernels.exp2 import exp2
from mlxnode.kernels.sample import LOG2_E

_BLOCK = 1 << 18  # numbers of the states that exist together
_LONGEST = 64  # tokens of a block
_NUM_TRACED = 64  # tokens that a trace shows; the others need as much memory
_NUM_TRACED_BLOCKS = 3


def rnn_scan(x: mx.array, a: mx.array, h0: mx.array | None) -> tuple[mx.array, mx.array]:
    """``recurrent_gemma.rnn_scan``: h = a h + x.

    Shapes:
        x, a: [B, T, D]; h0: [B, D] -> y: [B, T, D], the last h
    """
    B, T, D = x.shape
    h = mx.zeros((B, D), x.dtype) if h0 is None else h0
    left_out, ys = num_left_out(T, _NUM_TRACED), []
    for t in range(left_out, T):
        h = a[:, t] * h + x[:, t]
        ys.append(h)
    return _joined(ys, left_out), h


def recurrent_gla(
    q: mx.array, k: mx.array, v: mx.array, g: mx.array, scale: float, h: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """``bailing_moe_linear.recurrent_gla``, by the function of a later model: in chunks."""
    from mlx_lm.models import bailing_hybrid

    return bailing_hybrid.recurrent_gla(q, k, v, g, scale=scale, h=h)


def jamba_ssm_step(
    self: Any, x: mx.array, A: mx.array, state: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """The method ``ssm_step`` of Jamba's mamba layers.

    Shapes:
        x: [B, T, D]; A: [D, N]; state: [B, D, N] -> y: [B, T, D], state
    """
    norms = self.dt_layernorm, self.b_layernorm, self.c_layernorm
    delta, B, C = (norm(part) for norm, part in zip(norms, _projected(self, x), strict=True))
    y, state = selective_scan(x, nn.softplus(self.dt_proj(delta)), A, B, C, state)
    return y + self.D * x, state


def mamba_process_sequence(
    self: Any, x: mx.array, conv_cache: mx.array | None, state: mx.array | None
) -> tuple[mx.array, tuple[mx.array, mx.array]]:
    """The method ``_process_sequence`` of Mamba's layers.

    Shapes:
        x: [B, T, hidden]; conv_cache: [B, kernel - 1, D]; state: [B, D, N] -> as x, and both
        caches
    """
    kept = self.conv_kernel_size - 1
    x, z = self.in_proj(x).split(2, axis=-1)
    if conv_cache is None:
        conv_cache = mx.zeros((x.shape[0], kept, x.shape[2]), x.dtype)
    padded = mx.concatenate([conv_cache, x], axis=1)
    x = nn.silu(self.conv1d(padded))
    delta, B, C = _projected(self, x)
    if self.use_bcdt_rms:
        eps = self.args.mixer_rms_eps
        delta, B, C = (mx.fast.rms_norm(part, None, eps) for part in (delta, B, C))
    delta = nn.softplus(self.dt_proj(delta))
    y, state = selective_scan(x, delta, -mx.exp(self.A_log), B, C, state)
    y = self.out_proj(swiglu(z, y + self.D * x))
    return y, (padded[:, -kept:], state)


def selective_scan(
    x: mx.array, delta: mx.array, A: mx.array, B: mx.array, C: mx.array, state: mx.array | None
) -> tuple[mx.array, mx.array]:
    """Mamba's recurrence: S = exp(delta A) S + delta x B^T, y = S C.

    Shapes:
        x, delta: [b, T, D]; A: [D, N]; B, C: [b, T, N]; state: [b, D, N] -> y: [b, T, D], state
    """
    (b, T, D), N = x.shape, A.shape[1]
    if state is None:
        state = mx.zeros((b, D, N), x.dtype)
    length = min(max(_BLOCK // (b * D * N), 1), _LONGEST)
    starts = range(0, T, length)
    left_out = num_left_out(len(starts), _NUM_TRACED_BLOCKS)
    ys = [mx.zeros((b, starts[left_out], D), x.dtype)] if left_out else []
    for start in starts[left_out:]:
        block = slice(start, start + length)
        time = delta[:, block]
        decays = exp2((time[..., None] * A).astype(mx.float32) * LOG2_E)  # [b, length, D, N]
        written = (time * x[:, block])[..., None] * B[:, block, None, :]
        states = []
        for t in range(time.shape[1]):
            state = decays[:, t] * state + written[:, t]
            states.append(state)
        ys.append((mx.stack(states, axis=1) @ C[:, block, :, None])[..., 0])
        if len(starts) > 1:
            mx.eval(ys[-1], state)  # else MLX keeps the states of all blocks
    return mx.concatenate(ys, axis=1), state


def _projected(layer: Any, x: mx.array) -> Sequence[mx.array]:
    """The step, B and C of each token."""
    rank, size = layer.time_step_rank, layer.ssm_state_size
    return tuple(mx.split(layer.x_proj(x), [rank, rank + size], axis=-1))


def _joined(ys: list[mx.array], left_out: int) -> mx.array:
    """The results of each token beside each other, after zeros for the tokens left out."""
    y = mx.stack(ys, axis=1)
    if left_out:
        blank = mx.zeros((y.shape[0], left_out, *y.shape[2:]), y.dtype)
        y = mx.concatenate([blank, y], axis=1)
    return y
