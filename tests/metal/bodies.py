"""Run the body of a kernel in one call, for the tests of the emulator itself."""

import mlx.core as mx
from metal.emulator import Run, emulate

SUM_ROWS = """
    uint row = threadgroup_position_in_grid.x;
    uint V = x_shape[1];
    threadgroup float partial[32];
    float sum = 0.0;
    for (uint i = thread_index_in_threadgroup; i < V; i += threads_per_threadgroup.x) {
        sum += float(x[row * V + i]);
    }
    sum = simd_sum(sum);
    if (thread_index_in_simdgroup == 0) partial[simdgroup_index_in_threadgroup] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint lane = thread_index_in_simdgroup;
    sum = simd_sum(lane < simdgroups_per_threadgroup ? partial[lane] : 0.0f);
    if (thread_index_in_threadgroup == 0) out[row] = T(sum);
"""


def run_source(
    source: str,
    *inputs: mx.array,
    threads: int = 64,
    groups: int = 1,
    shape: tuple[int, ...] = (64,),
    dtype: mx.Dtype = mx.float32,
    header: str = "",
    template: list | None = None,
    atomic_outputs: bool = False,
    **options,
) -> Run:
    """Run a kernel body on inputs ``x``, ``y``, ... with the output ``out``."""
    kernel = mx.fast.metal_kernel(
        name="body",
        input_names=["x", "y", "z"][: len(inputs)],
        output_names=["out"],
        source=source,
        header=header,
        atomic_outputs=atomic_outputs,
    )
    return emulate(
        lambda *arrays: kernel(
            inputs=list(arrays),
            template=template,
            grid=(threads * groups, 1, 1),
            threadgroup=(threads, 1, 1),
            output_shapes=[shape],
            output_dtypes=[dtype],
        ),
        *inputs,
        **options,
    )


def values(count: int = 64) -> mx.array:
    return mx.arange(count).astype(mx.float32)


def sum_rows(x: mx.array, source: str = SUM_ROWS, **options) -> Run:
    """Sum each row with 128 threads: SIMD groups, then threadgroup memory."""
    return run_source(
        source,
        x,
        threads=128,
        groups=x.shape[0],
        shape=(x.shape[0],),
        dtype=x.dtype,
        template=[("T", x.dtype)],
        **options,
    )
