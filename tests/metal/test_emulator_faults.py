"""Each class of fault is found, and named, in a small kernel that has the fault."""

import shutil

import mlx.core as mx
import pytest
from metal.bodies import SUM_ROWS, run_source, sum_rows, values
from metal.build import find_compiler
from metal.emulator import MetalFault
from metal.translate import RefusedError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler found"),
]

WRITE_THEN_READ = """
    uint i = thread_index_in_threadgroup;
    threadgroup float shared[64];
    shared[i] = x[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = shared[63 - i];
"""


def test_emulate_accepts_the_kernel_that_the_faults_are_made_of():
    assert run_source(WRITE_THEN_READ, values()).outputs[0].tolist() == list(range(63, -1, -1))


@pytest.mark.parametrize("schedule", ["in_order", "reversed", "shuffled"])
def test_emulate_finds_a_missing_barrier(schedule):
    source = WRITE_THEN_READ.replace("threadgroup_barrier(mem_flags::mem_threadgroup);", "")
    with pytest.raises(MetalFault, match=r"(race on|uninitialised read).*'shared'"):
        run_source(source, values(), schedule=schedule)
    with pytest.raises(MetalFault, match=r"race on threadgroup memory 'partial'|uninitialised"):
        source = SUM_ROWS.replace("threadgroup_barrier(mem_flags::mem_threadgroup);", "")
        sum_rows(mx.ones((1, 256)), source, schedule=schedule)


BROKEN = {
    "barrier that does not order the memory": (
        WRITE_THEN_READ.replace("mem_threadgroup", "mem_device"),
        r"race on threadgroup memory 'shared': thread 63 reads element 0 \(line \S+\), "
        r"which thread 0 wrote \(line \S+\) with no barrier between",
    ),
    "barrier of the SIMD group for the threadgroup": (
        WRITE_THEN_READ.replace("threadgroup_barrier", "simdgroup_barrier"),
        r"race on threadgroup memory 'shared'|uninitialised read",
    ),
    "no barrier before the memory is used again": (
        WRITE_THEN_READ + "shared[i] = 0;",
        r"race on threadgroup memory 'shared': thread \d+ (reads|writes) element \d+ ",
    ),
    "counter that is not atomic": (
        "threadgroup uint count; if (thread_index_in_threadgroup == 0) count = 0;"
        "threadgroup_barrier(mem_flags::mem_threadgroup); count += x[0];"
        "out[0] = count;",
        r"race on threadgroup memory 'count'",
    ),
    "atomic counter read without a barrier": (
        "threadgroup atomic_uint count;"
        "atomic_fetch_add_explicit(&count, 1u, memory_order_relaxed); out[0] = x[0];",
        r"uninitialised read: thread 0 reads element 0 of threadgroup memory 'count'",
    ),
    "output written by two threads": (
        "out[thread_index_in_threadgroup / 2] = x[0];",
        r"race on buffer 'out': thread 1 writes element 0 \(line \S+\), which thread 0 wrote",
    ),
    "divergent barrier": (
        "if (thread_index_in_threadgroup < 40) threadgroup_barrier(mem_flags::mem_none);"
        "out[thread_index_in_threadgroup] = x[0];",
        r"divergent barrier: 40 of 64 threads wait at threadgroup_barrier \(line \d+\), "
        "24 have returned",
    ),
    "two barriers for one": (
        "if (thread_index_in_threadgroup < 40) threadgroup_barrier(mem_flags::mem_none);"
        "else threadgroup_barrier(mem_flags::mem_none); out[0] = x[0];",
        r"divergent barrier: thread 40 is at threadgroup_barrier",
    ),
    "missing lanes": (
        "uint i = thread_index_in_threadgroup; if (i < 40) out[i] = simd_sum(x[0]);",
        r"missing lanes in simd_sum \(line 5\): lane 8 of SIMD group 1 has returned",
    ),
    "lanes at two functions": (
        "out[0] = thread_index_in_simdgroup < 9 ? simd_sum(x[0]) : simd_max(x[0]);",
        r"missing lanes in simd_sum \(line 5\): lane 9 of SIMD group 0 is at simd_max",
    ),
    "lane that does not exist": (
        "out[0] = simd_shuffle(x[0], ushort(32));",
        r"simd_shuffle \(line 4\) reads lane 32, which the SIMD group does not have",
    ),
    "read past a buffer": (
        "out[thread_position_in_grid.x] = x[thread_position_in_grid.x + 1];",
        r"out of bounds: thread 63 reads element 64 of buffer 'x' \(line \S+\), which has 64",
    ),
    "read before a buffer": (
        "out[thread_position_in_grid.x] = x[int(thread_position_in_grid.x) - 1];",
        r"out of bounds: thread 0 reads element -1 of buffer 'x'|belongs to no buffer",
    ),
    "unsigned index below zero": (
        "out[thread_position_in_grid.x] = x[thread_position_in_grid.x - 1];",
        r"out of bounds: thread 0 reads memory \(line \S+\) that belongs to no buffer",
    ),
    "write past a buffer": (
        "out[thread_position_in_grid.x + 1] = x[0];",
        r"out of bounds: thread 63 writes element 64 of buffer 'out'",
    ),
    "write past threadgroup memory": (
        "threadgroup float shared[63]; threadgroup float* s = shared;"
        "s[thread_index_in_threadgroup] = x[0];",
        r"out of bounds: thread 63 writes element 63 of threadgroup memory 'shared'",
    ),
    "index outside of a local array": (
        "float local[4] = {0, 1, 2, 3}; out[0] = local[int(x[4])];",
        r"undefined behaviour: index outside of its array \(line 4\)",
    ),
    "uninitialised threadgroup memory": (
        "threadgroup float shared[64]; uint i = thread_index_in_threadgroup;"
        "if (i != 5) shared[i] = x[i]; out[i] = shared[i];",
        r"uninitialised read: thread 5 reads element 5 of threadgroup memory 'shared'",
    ),
    "uninitialised output": (
        "out[thread_position_in_grid.x] += x[0];",
        r"uninitialised read: thread 0 reads element 0 of buffer 'out'",
    ),
    "33 KB of threadgroup memory": (
        "threadgroup float a[8192], b[256]; a[0] = x[0]; b[0] = 1; out[0] = 1;",
        r"33792 bytes of threadgroup memory with 'b', at most 32768",
    ),
    "write to an input": (
        "((device float*)x)[0] = 1; out[0] = 1;",
        r"thread 0 writes the input 'x'",
    ),
    "misaligned vector": (
        "out[0] = (*(const device float4*)(x + 1)).x;",
        r"undefined behaviour: misaligned pointer \(line 4\)",
    ),
    "shift by the width": (
        "out[0] = 1 << (int(x[16]) * 2);",
        r"undefined behaviour: shift by too much",
    ),
    "signed overflow": (
        "out[0] = INT_MAX - 10 + int(x[11]);",
        r"undefined behaviour: signed overflow of \+",
    ),
    "division by zero": ("out[0] = 7 / int(x[0]);", r"integer division by zero"),
    "float too large for an integer": (
        "out[0] = uint(x[2] * 1e10);",
        r"float does not fit the integer type",
    ),
    "endless loop": (
        "while (x[1] > 0) {} out[0] = 1;",
        r"endless loop: thread 0 is at line",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_emulate_finds(fault):
    source, message = BROKEN[fault]
    with pytest.raises(MetalFault, match=message):
        run_source(source, values(), step_limit=10**6)


def test_emulate_finds_threadgroups_that_write_one_element():
    with pytest.raises(MetalFault, match=r"which thread 0 of another threadgroup wrote"):
        run_source("out[0] = x[0];", values(), threads=1, groups=2)


def test_emulate_finds_too_many_threads():
    with pytest.raises(MetalFault, match="1025 threads in a threadgroup, at most 1024"):
        run_source("out[0] = x[0];", values(), threads=1025)


def test_emulate_finds_runaway_recursion():
    header = "int sum(int n) { return n <= 0 ? 0 : n + sum(n - 1) * 3; }"
    with pytest.raises(MetalFault, match="stack overflow: thread 0 has too many calls"):
        run_source("out[0] = sum(1 << 20) + x[0];", values(), header=header)


def test_emulate_finds_variables_too_large_for_a_thread():
    source = "float v[65536]; for (int i = 0; i < 65536; i++) v[i] = x[i % 64]; out[0] = v[9];"
    with pytest.raises(MetalFault, match="stack overflow: thread 0 has too many calls"):
        run_source(source, values())


def test_emulate_finds_divergence_when_it_does_not_check_memory():
    source, message = BROKEN["divergent barrier"]
    with pytest.raises(MetalFault, match=message):
        run_source(source, values(), checked=False)


@pytest.mark.skipif(shutil.which("addr2line") is None, reason="no addr2line found")
def test_emulate_names_the_kernel_and_quotes_the_line():
    with pytest.raises(MetalFault, match=r"(?s)^custom_kernel_body.*\n  out\[64\] = x\[0\];$"):
        run_source("\n  out[64] = x[0];", values(), threads=1)


REFUSED = {
    "double": ("double d = x[0]; out[0] = d;", r"double is not supported \(line 4\)"),
    "a standard header's function": (
        "out[0] = std::exp(x[0]);",
        "the C\\+\\+ standard library",
    ),
    "a function that Metal lacks": ("out[0] = erf(x[0]);", "'?erf'? was not declared|erf"),
    "an ambiguous maximum": ("out[0] = max(1, 2u) + x[0];", "max"),
    "a 64-bit SIMD function": ("out[0] = simd_sum(ulong(x[0]));", "at most 32 bits"),
    "an atomic of 64 bits": (
        "threadgroup atomic<ulong> a; atomic_store_explicit(&a, ulong(x[0]),"
        "memory_order_relaxed); out[0] = 1;",
        "atomics are int, uint or float",
    ),
    "an unknown memory order": (
        "threadgroup atomic_int a; atomic_store_explicit(&a, 1, memory_order_seq_cst);"
        "out[0] = x[0];",
        "memory_order_seq_cst",
    ),
    "bfloat from float without a cast": ("bfloat b = x[0]; out[0] = b;", "bfloat|Bfloat"),
    "a threadgroup variable with a value": (
        "threadgroup int a = 1; out[0] = x[0];",
        "initialiser",
    ),
    "a lambda": ("auto f = [&](float v) { return v; }; out[0] = f(x[0]);", "lambda"),
    "a variable nobody sets": ("float v; out[0] = v + x[0];", "uninitialized"),
}


@pytest.mark.parametrize("construct", REFUSED)
def test_translate_or_compiler_refuses(construct):
    source, message = REFUSED[construct]
    with pytest.raises(RefusedError, match=message):
        run_source(source, values())
