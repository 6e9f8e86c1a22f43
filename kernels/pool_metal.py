"""``pool`` as one Metal kernel: one threadgroup a text, one launch a batch.

Each thread pools every THREADS-th component; the padding is never read.
"""

import functools
from pathlib import Path

import mlx.core as mx

from mlxnode.kernels.columns import MIN_ELEMENTS
from mlxnode.kernels.pool import PoolingColumns, pool_ops

THREADS = 512

_HEADER = Path(__file__).with_name("pool.metal").read_text()
_BODY = """
    const Place at = {thread_index_in_threadgroup, thread_index_in_simdgroup,
                      simdgroup_index_in_threadgroup};
    const uint row = threadgroup_position_in_grid.x;
    const uint L = hidden_shape[1], D = hidden_shape[2];
    const device T* states = hidden + ulong(row) * L * D;
    device float* vector = vectors + ulong(row) * D;
    threadgroup float partial[GROUPS];

    const uint length = min(uint(lengths[row]), L), dimension = uint(dimensions[row]);
    const uint first = modes[row] == MEAN || modes[row] == CLS || length == 0 ? 0 : length - 1;
    const uint last = modes[row] == CLS ? min(length, 1u) : length;

    // Each thread reads again only what it wrote itself.
    uint largest_bits = 0;
    for (uint d = at.thread_index; d < D; d += THREADS) {
      const float mean =
          first < last && d < dimension ? mean_of(states + d, first, last, D) : 0.0f;
      vector[d] = mean;
      // As bits, since NaN is above infinity there.
      largest_bits = max(largest_bits, as_type<uint>(abs(mean)));
    }
    if (NORMALIZE) {
      largest_bits = group_max(largest_bits, partial, at);
      float largest = as_type<float>(largest_bits);
      if (largest_bits >= BITS_OF_INFINITY) largest = NAN;
      else if (largest < SMALLEST) largest = INFINITY;
      float squares = 0.0f;
      for (uint d = at.thread_index; d < D; d += THREADS) {
        const float scaled = vector[d] / largest;
        squares += scaled * scaled;
      }
      const float norm = sqrt(group_sum(squares, partial, at));
      for (uint d = at.thread_index; d < D; d += THREADS)
        vector[d] = vector[d] / largest / (norm == 0.0f ? 1.0f : norm);
    }
"""


def pool_metal(hidden: mx.array, columns: PoolingColumns, *, normalize: bool) -> mx.array:
    """Pool each row; as ``pool_ops``."""
    B, _, D = hidden.shape
    if hidden.size < MIN_ELEMENTS:
        return pool_ops(hidden, columns, normalize=normalize)
    return kernel()(
        inputs=[hidden, columns.lengths, columns.modes, columns.dimensions],
        template=[("T", hidden.dtype), ("NORMALIZE", normalize)],
        grid=(THREADS * B, 1, 1),
        threadgroup=(THREADS, 1, 1),
        output_shapes=[(B, D)],
        output_dtypes=[mx.float32],
    )[0]


@functools.cache
def kernel():
    """The kernel, built by MLX when it is first called."""
    return mx.fast.metal_kernel(
        name="pool",
        input_names=["hidden", "lengths", "modes", "dimensions"],
        output_names=["vectors"],
        header=f"constant constexpr uint THREADS = {THREADS};\n{_HEADER}",
        source=_BODY,
    )
