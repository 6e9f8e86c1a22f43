"""The emulator computes the results that Metal defines, and counts the work of a kernel."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from metal.bodies import run_source, sum_rows, values
from metal.build import find_compiler
from metal.capture import CaptureError, capture
from metal.emulator import EmulatedKernel, emulate
from metal.translate import translate
from mlx_lm.models import gated_delta

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler found"),
]


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("checked", [True, False])
def test_emulate_reduces_rows_as_numpy(dtype, checked):
    x = mx.array(np.random.default_rng(0).integers(-8, 8, (3, 301))).astype(dtype)
    run = sum_rows(x, checked=checked)
    assert run.outputs[0].dtype == dtype
    assert run.outputs[0].tolist() == x.astype(mx.float32).sum(axis=1).astype(dtype).tolist()


@pytest.mark.parametrize("schedule", ["in_order", "reversed", "shuffled"])
def test_emulate_is_the_same_in_every_schedule(schedule):
    x = mx.array(np.random.default_rng(1).standard_normal((2, 1000)).astype(np.float32))
    run = sum_rows(x, schedule=schedule, seed=5)
    np.testing.assert_allclose(run.outputs[0], np.array(x).sum(axis=1), rtol=1e-5)


def test_emulate_prefix_sums_across_simd_groups():
    source = """
        threadgroup uint totals[8], base[8];
        uint i = thread_index_in_threadgroup, group = simdgroup_index_in_threadgroup;
        uint before = simd_prefix_exclusive_sum(x[i]);
        if (thread_index_in_simdgroup == 31) totals[group] = before + x[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (i < 8) {
            uint sum = 0;
            for (uint j = 0; j < i; j++) sum += totals[j];
            base[i] = sum;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = base[group] + before;
    """
    x = mx.array(np.random.default_rng(2).integers(0, 9, 256), dtype=mx.uint32)
    run = run_source(source, x, threads=256, shape=(256,), dtype=mx.uint32)
    np.testing.assert_array_equal(run.outputs[0], np.cumsum(x) - np.array(x))
    assert (run.barriers, run.threadgroup_bytes) == (2, 64)


def test_emulate_counts_with_threadgroup_and_device_atomics():
    source = """
        threadgroup atomic_uint local[16];
        uint t = thread_index_in_threadgroup;
        if (t < 16) atomic_store_explicit(&local[t], 0u, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint bin = x[thread_position_in_grid.x];
        atomic_fetch_add_explicit(&local[bin], 1u, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (t < 16) {
            uint n = atomic_load_explicit(&local[t], memory_order_relaxed);
            atomic_fetch_add_explicit(&out[t], n, memory_order_relaxed);
        }
    """
    x = mx.array(np.random.default_rng(3).integers(0, 16, 512), dtype=mx.uint32)
    run = run_source(
        source,
        x,
        threads=128,
        groups=4,
        shape=(16,),
        dtype=mx.uint32,
        atomic_outputs=True,
        init_value=0,
        schedule="shuffled",
    )
    np.testing.assert_array_equal(run.outputs[0], np.bincount(np.array(x), minlength=16))


SIMD_FUNCTIONS = {
    "simd_sum(v)": lambda v, i: v.sum(),
    "simd_max(v)": lambda v, i: v.max(),
    "simd_min(v)": lambda v, i: v.min(),
    "simd_prefix_inclusive_sum(v)": lambda v, i: v[: i + 1].sum(),
    "simd_prefix_exclusive_sum(v)": lambda v, i: v[:i].sum(),
    "simd_broadcast(v, 7)": lambda v, i: v[7],
    "simd_shuffle(v, 31 - lane)": lambda v, i: v[31 - i],
    "simd_shuffle_xor(v, 5)": lambda v, i: v[i ^ 5],
    "simd_shuffle_down(v, 3)": lambda v, i: v[i + 3] if i < 29 else v[i],
    "simd_shuffle_up(v, 3)": lambda v, i: v[i - 3] if i > 2 else v[i],
    "int(ulong(simd_ballot(v > 0)) >> lane & 1)": lambda v, i: v[i] > 0,
    "int(simd_any(v == 4))": lambda v, i: (v == 4).any(),
    "int(simd_all(v > -9))": lambda v, i: (v > -9).all(),
    "simd_or(v)": lambda v, i: np.bitwise_or.reduce(v),
    "simd_and(v)": lambda v, i: np.bitwise_and.reduce(v),
}


def test_emulate_simd_functions_as_numpy():
    x = np.random.default_rng(4).integers(-8, 8, (2, 32)).astype(np.int32)
    source = (
        "uint i = thread_position_in_grid.x, lane = thread_index_in_simdgroup; int v = x[i];"
    )
    for row, expression in enumerate(SIMD_FUNCTIONS):
        source += f"\nout[{row} * 64 + i] = {expression};"
    run = run_source(source, mx.array(x), shape=(len(SIMD_FUNCTIONS), 2, 32), dtype=mx.int32)
    for got, (expression, expected) in zip(
        run.outputs[0].tolist(), SIMD_FUNCTIONS.items(), strict=True
    ):
        assert got == [[int(expected(v, i)) for i in range(32)] for v in x], expression


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_emulate_rounds_sixteen_bit_floats_to_nearest_even(dtype):
    bits = np.random.default_rng(5).integers(0, 2**32, 4096, dtype=np.uint32)
    edges = [0.0, -0.0, 65519.0, 65520.0, 6e-8, 2.9e-8, 3e38, np.inf, -np.inf, np.nan]
    # Subnormal float32 numbers are zero on the GPU.
    x = np.concatenate([bits.view(np.float32), np.array(edges, np.float32)])
    x[np.abs(x) < np.finfo(np.float32).tiny] = 0
    source = "uint i = thread_position_in_grid.x; out[i] = T(x[i]);"
    run = run_source(
        source,
        mx.array(x),
        threads=1,
        groups=x.size,
        shape=x.shape,
        dtype=dtype,
        template=[("T", dtype)],
    )
    got, want = (
        np.array(a.astype(mx.float32)) for a in (run.outputs[0], mx.array(x).astype(dtype))
    )
    np.testing.assert_array_equal(got, want)


def test_emulate_computes_half_in_half_and_widens_exactly():
    bits = np.arange(65536, dtype=np.uint16)
    x = mx.array(bits).view(mx.float16)
    source = "uint i = thread_position_in_grid.x; out[i] = float(x[i] + x[i] * 3) + 0.0h;"
    run = run_source(source, x, threads=1024, groups=64, shape=x.shape)
    want = (x + x * mx.array(3, mx.float16)).astype(mx.float32)
    np.testing.assert_array_equal(run.outputs[0], want)


def test_emulate_loads_vectors_once():
    source = """
        uint i = thread_position_in_grid.x;
        vec<T, 4> v = *(const device vec<T, 4>*)(x + 4 * i);
        float4 wide = exp(float4(v) * 0.5) + float4(1.0);
        out[i] = dot(wide, select(float4(0.0f), float4(2.0f), wide > float4(1.5f))) + wide[3];
    """
    x = mx.array(np.random.default_rng(6).standard_normal((64, 4))).astype(mx.bfloat16)
    run = run_source(source, x, template=[("T", mx.bfloat16)])
    wide = np.exp(np.array(x.astype(mx.float32)) * 0.5) + 1
    np.testing.assert_allclose(
        run.outputs[0], (2 * wide * (wide > 1.5)).sum(axis=1) + wide[:, 3], rtol=1e-5
    )
    assert run.traffic["x"].reads == 1


def test_emulate_integer_and_nan_functions():
    source = """
        float nan = as_type<float>(0x7FC00000u);
        uint u = x[0];
        out[0] = popcount(u); out[1] = clz(u); out[2] = ctz(u); out[3] = mulhi(u, u);
        out[4] = max(nan, 2.0f); out[5] = min(3.0f, nan); out[6] = isnan(nan);
        out[7] = clamp(9.0f, 0.0f, 4.0f); out[8] = isinf(-INFINITY); out[9] = clz(u >> 31);
        out[10] = fma(2.0f, 3.0f, 1.0f); out[11] = metal::precise::exp(0.0f) + fast::log(1.0);
        out[12] = rotate(u, 4u) & 15; out[13] = select(1, 2, u > 3); out[14] = -7 / 2 % 2;
    """
    run = run_source(source, mx.array([0x60000F00] * 8, mx.uint32), threads=1, shape=(15,))
    square = 0x60000F00**2 >> 32
    assert run.outputs[0].tolist() == pytest.approx(
        [6, 1, 8, square, 2, 3, 1, 4, 1, 32, 7, 1, 6, 2, -1], rel=1e-6
    )


def test_emulate_structs_templates_and_constant_tables():
    header = """
        constant float TABLE[4] = {1, 10, 100, 1000.0};
        constant constexpr int STEP = 2;
        struct Pair { float value; uint index; };
        inline float look(constant float* table, uint i) { return table[i & 3]; }
        template <typename T, int N>
        METAL_FUNC Pair largest(const threadgroup T* values) {
            Pair best = {float(values[0]), 0};
            #pragma unroll
            for (uint i = 1; i < N; i++)
                if (float(values[i]) > best.value) best = {float(values[i]), i};
            return best;
        }
    """
    source = """
        threadgroup half shared[N];
        threadgroup Pair result;
        uint i = thread_index_in_threadgroup;
        shared[i] = half(x[i]);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (i == 0) result = largest<half, N>(shared);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = result.value + look(TABLE, i) * STEP + (result.index == i ? 0.5 : 0.0);
    """
    run = run_source(source, values(), header=header, template=[("N", 64)])
    want = [63 + 2 * 10.0 ** (i % 4) + (i == 63) / 2 for i in range(64)]
    assert run.outputs[0].tolist() == want
    assert run.threadgroup_bytes == 64 * 2 + 8


def test_emulate_runs_a_ragged_grid_in_three_dimensions():
    kernel = mx.fast.metal_kernel(
        name="position",
        input_names=["x"],
        output_names=["out"],
        source="""
            uint3 p = thread_position_in_grid, n = threads_per_grid;
            out[(p.z * n.y + p.y) * n.x + p.x] = threads_per_threadgroup.x * 100 + p.x + x;
        """,
    )
    run = emulate(
        lambda x: kernel(
            inputs=[x],
            grid=(5, 3, 2),
            threadgroup=(4, 2, 1),
            output_shapes=[(2, 3, 5)],
            output_dtypes=[mx.int32],
        ),
        mx.array(0),
    )
    assert run.threadgroups == 8
    assert run.outputs[0].tolist() == [[[400, 401, 402, 403, 104]] * 3] * 2


def test_emulate_reports_traffic_and_unwritten_output():
    source = "if (thread_position_in_grid.x < 60) out[thread_position_in_grid.x] = x[0];"
    run = run_source(source, values())
    assert run.traffic["x"].read == 60 * 4
    assert (run.traffic["out"].written, run.traffic["out"].untouched) == (240, 16)
    assert np.isnan(np.array(run.outputs[0])[60:]).all()  # the poison


def test_emulate_runs_a_kernel_of_mlx_lm(monkeypatch):
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(
        gated_delta, "_gated_delta_kernel", gated_delta._make_gated_delta_kernel()
    )
    rng = np.random.default_rng(7)
    B, T, Hk, Hv, Dk, Dv = 2, 3, 2, 4, 64, 8
    shapes = [(B, T, Hk, Dk), (B, T, Hk, Dk), (B, T, Hv, Dv), (B, T, Hv), (B, T, Hv)]
    shapes.append((B, Hv, Dv, Dk))
    arrays = [mx.array(rng.uniform(-0.5, 0.5, s).astype(np.float32)) for s in shapes]
    run = emulate(gated_delta.gated_delta_kernel_unpacked, *arrays)
    for got, want in zip(run.outputs, gated_delta.gated_delta_ops(*arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_emulated_kernel_stands_in_for_metal_kernel(monkeypatch):
    emulated = partial(EmulatedKernel, options={"schedule": "reversed"})
    monkeypatch.setattr(mx.fast, "metal_kernel", emulated)
    kernel = mx.fast.metal_kernel(
        name="scale",
        input_names=["x", "factor"],
        output_names=["out"],
        source="out[thread_position_in_grid.x] += x[thread_position_in_grid.x] * factor;",
    )
    (out,) = kernel(
        inputs=[mx.exp(mx.zeros(8)), 3.0],
        grid=(8, 1, 1),
        threadgroup=(8, 1, 1),
        output_shapes=[(8,)],
        output_dtypes=[mx.float32],
        init_value=1,
    )
    assert out.tolist() == [4] * 8
    assert kernel.runs[0].traffic["x"].reads == 1


def test_translate_keeps_the_lines_of_the_source():
    source = "/* two\nlines */ threadgroup float a[2],\n b;\n\nout[0] = 1.5; // x\n"
    kernel = "[[kernel]] void k(\n  device float* out [[buffer(0)]]) {\n" + source + "}\n"
    code = translate(kernel).code.split('"kernel.metal"\n')[1].split("\n")
    assert code[6] == "out[0] = 1.5f;  "
    assert 'threadgroup_variable<b_type>(1, "b")' in code[3]


def test_capture_refuses_what_is_not_one_kernel_on_its_arguments():
    kernel = mx.fast.metal_kernel("k", ["x"], ["out"], "out[0] = x[0];")

    def call(x):
        return kernel(
            inputs=[x],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            output_shapes=[(1,)],
            output_dtypes=[mx.float32],
        )

    with pytest.raises(CaptureError, match="calls 0 custom kernels"):
        capture(mx.exp, values())
    with pytest.raises(CaptureError, match="input 0 of the kernel is computed by Exp"):
        capture(lambda x: call(mx.exp(x)), values())
