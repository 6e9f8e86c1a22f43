"""``pool`` as one Metal kernel: one threadgroup for a row, one launch for a batch.

Each thread pools every THREADS-th component. Padding is never read.
"""

import functools
from pathlib import Path

import mlx.core as mx

from mlxnode.kernels.columns import MIN_ELEMENTS
from mlxnode.kernels.metal import MetalKernel, make_kernel
from mlxnode.kernels.pool import PoolingColumns, pool_ops

THREADS = 512
INPUTS = ["hidden", "lengths", "modes", "dimensions"]
OUTPUTS = ["vectors"]

_HEADER = Path(__file__).with_name("pool.metal").read_text()
_BODY = """
    const ThreadIndices my = {thread_index_in_threadgroup, thread_index_in_simdgroup,
                              simdgroup_index_in_threadgroup};
    const uint row = threadgroup_position_in_grid.x;
    const uint L = hidden_shape[1], D = hidden_shape[2];
    const device T* states = hidden + ulong(row) * L * D;
    device float* vector = vectors + ulong(row) * D;
    threadgroup float partial[GROUPS];

    const uint length = min(uint(lengths[row]), L), dimension = uint(dimensions[row]);
    const uint first = modes[row] == MEAN || modes[row] == CLS || length == 0 ? 0 : length - 1;
    const uint last = modes[row] == CLS ? min(length, 1u) : length;

    // Each thread reads again only the elements that it wrote itself.
    uint largest_bits = 0;
    for (uint d = my.thread_index; d < D; d += THREADS) {
      const float mean =
          first < last && d < dimension ? mean_of(states + d, first, last, D) : 0.0f;
      vector[d] = mean;
      // Compared as bits, where NaN is above infinity.
      largest_bits = max(largest_bits, as_type<uint>(abs(mean)));
    }
    if (NORMALIZE) {
      largest_bits = group_max(largest_bits, partial, my);
      float largest = as_type<float>(largest_bits);
      if (largest_bits >= BITS_OF_INFINITY) largest = NAN;
      else if (largest < SMALLEST) largest = INFINITY;
      float squares = 0.0f;
      for (uint d = my.thread_index; d < D; d += THREADS) {
        const float scaled = vector[d] / largest;
        squares += scaled * scaled;
      }
      const float norm = sqrt(group_sum(squares, partial, my));
      for (uint d = my.thread_index; d < D; d += THREADS)
        vector[d] = vector[d] / largest / (norm == 0.0f ? 1.0f : norm);
    }
"""


def pool_metal(hidden: mx.array, columns: PoolingColumns, *, normalize: bool) -> mx.array:
    """``pool_ops`` as one launch of the kernel."""
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
def kernel() -> MetalKernel:
    return make_kernel(
        name="pool",
        inputs=INPUTS,
        outputs=OUTPUTS,
        constants={"THREADS": THREADS},
        header=_HEADER,
        body=_BODY,
    )
