"""No global of a kernel has a name that Metal's library or MLX's preamble has taken."""

import random
import re
from pathlib import Path

import mlx.core as mx
import pytest
from metal.bodies import run_source, values
from metal.build import build
from metal.emulator import emulate
from metal.names import declarations, global_names, metal_names, preamble_names
from metal.translate import RefusedError
from support.sampling_reference import RowCase, batch_of

from mlxnode.kernels import pool_metal, sample_metal

BY_SECTION = {
    section: [name for name, where in metal_names().items() if where == section]
    for section in metal_names().values()
}
DEFINITIONS = {
    "function": "METAL_FUNC float {}(float x) {{ return x; }}",
    "function template": "template <typename T>\nMETAL_FUNC T {}(T x) {{ return x; }}",
    "struct": "struct {} {{ float x; }};",
    "struct template": "template <typename T> struct {} {{ T x; }};",
    "constant": "constant constexpr float {} = 1.0f;",
    "second constant": "constant constexpr float mine = 2.0f, {} = 1.0f;",
    "array": "constant constexpr float {}[2] = {{1.0f, 2.0f}};",
    "enum": "enum class {} {{ one, two }};",
    "alias": "using {} = float;",
    "typedef": "typedef float {};",
    "macro": "#define {} 1",
    "template parameter": "template <typename T, int {}>\nstruct Mine {{ T x; }};",
}
# The names of which the specification makes something that a sampler would like to have.
TEMPTING = [
    "uniform",
    "bias",
    "level",
    "array",
    "tensor",
    "rank",
    "extent",
    "mesh",
    "ray",
    "step",
]
TEMPTING += ["sampler", "filter", "coord", "length", "distance", "normalize", "uint", "kernel"]


def run_with(header: str) -> None:
    run_source("out[thread_position_in_grid.x] = x[0];", values(), header=header + "\n")


@pytest.mark.parametrize("name", TEMPTING)
def test_emulator_refuses_a_global_function_with_a_name_of_metal(name):
    with pytest.raises(RefusedError, match=f"'{name}' .line 2. is a (keyword|name of Metal)"):
        run_with("\n" + DEFINITIONS["function"].format(name))


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_emulator_refuses_each_kind_of_global_with_a_name_of_metal(kind):
    taken = [name for name, section in metal_names().items() if section != "keyword"]
    for name in random.Random(kind).sample(taken, 60):
        with pytest.raises(RefusedError, match=f"'{name}'"):
            run_with(DEFINITIONS[kind].format(name))


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_emulator_refuses_each_kind_of_global_with_a_name_of_mlx(kind):
    for name in ("Limits", "elem_to_loc", "complex64_t", "WorkPerThread", "hypot", "MTL_CONST"):
        with pytest.raises(RefusedError, match=f"'{name}' .* MLX"):
            run_with(DEFINITIONS[kind].format(name))


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEFINITIONS)
def test_emulator_accepts_each_kind_of_global_with_a_free_name(kind):
    run_with(DEFINITIONS[kind].format("weigh"))


@pytest.mark.slow
def test_compiler_finds_a_name_of_metal_ambiguous_that_is_not_emulated():
    # What the reading of the source lets through, the declarations stop: two names in one.
    header = "METAL_FUNC float JOIN(uni, form)(float x) { return x; }"
    body = "out[thread_position_in_grid.x] = JOIN(uni, form)(x[0]);"
    with pytest.raises(RefusedError, match="ambiguous"):
        run_source(body, values(), header=f"#define JOIN(a, b) a##b\n{header}\n")


@pytest.mark.slow
def test_locals_and_members_may_hide_names_of_metal():
    header = "struct Mine { float bias; float level; };\n"
    body = "Mine array = {1.0f, 2.0f}; out[thread_position_in_grid.x] = array.bias;"
    assert run_source(body, values(), header=header).outputs[0][0].item() == 1.0


def test_parameters_of_a_kernel_are_no_keywords():
    kernel = mx.fast.metal_kernel(
        name="body", input_names=["constant"], output_names=["out"], source="out[0] = 1;"
    )
    with pytest.raises(RefusedError, match="'constant' is a keyword"):
        emulate(
            lambda x: kernel(
                inputs=[x],
                grid=(1, 1, 1),
                threadgroup=(1, 1, 1),
                output_shapes=[(1,)],
                output_dtypes=[mx.float32],
            ),
            values(),
        )


@pytest.mark.parametrize("module", [sample_metal, pool_metal])
def test_globals_of_the_kernels_are_free_names(module):
    names = set(global_names(module._HEADER))
    assert len(names) > 8
    assert names.isdisjoint(metal_names())
    assert names.isdisjoint(preamble_names())


@pytest.mark.parametrize("name", ["uniform", "bias", "level", "array", "tensor", "Limits"])
@pytest.mark.parametrize("old", ["philox_uniform", "Window", "LANES"])
def test_kernel_with_a_global_of_a_taken_name_is_refused(emulated, monkeypatch, old, name):
    for part in ("_HEADER", "_BODY"):
        text = re.sub(rf"\b{old}\b", name, getattr(sample_metal, part))
        monkeypatch.setattr(sample_metal, part, text)
    with pytest.raises(RefusedError, match=f"the global '{name}' .line"):
        batch_of([RowCase(mx.zeros(64))]).sample(sample_metal.sample_metal)


def test_parameters_of_the_kernels_hide_no_name_of_metal():
    # MLX would make them parameters of the kernel, which is allowed, but a reader would wonder.
    names = {
        name
        for module in (sample_metal, pool_metal)
        for name in (*module.INPUTS, *module.OUTPUTS)
    }
    assert names.isdisjoint(metal_names())
    assert names.isdisjoint(preamble_names())


def test_names_of_the_preamble_are_those_of_mlx():
    assert {"Limits", "ceildiv", "elem_to_loc", "complex64_t", "log1p"} <= preamble_names()
    assert {"MLX_MTL_PRAGMA_UNROLL", "float16_t", "bfloat16_t"} <= preamble_names()


def test_names_are_several_hundred_and_each_is_in_one_section():
    text = (Path(__file__).parent / "metal_names.txt").read_text()
    assert len(metal_names()) > 800
    assert all(re.fullmatch(r"[A-Za-z_]\w*", name) for name in metal_names())
    assert set(metal_names().values()) == set(re.findall(r"^\[(.+)\]$", text, re.M))


@pytest.mark.slow
def test_emulated_names_exist_and_no_other_name_of_metal_does():
    functions = [
        name for name in BY_SECTION["metal emulated"] if name not in ("fast", "precise")
    ]
    used = "".join(f"using metal::{name};\n" for name in functions)
    code = f'#include "kernel.h"\n{declarations()}\nnamespace check {{\n{used}}}\n'
    code += "namespace a = metal::fast;\nnamespace b = metal::precise;\n"
    build(code + "void emulator::kernel() {}\n", checked=False)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("template <typename T, bool F> struct A { int b; };", {"A", "T", "F"}),
        ("constant constexpr uint A = 0x1F, B = C(1, 2), D[2] = {1, 2};", {"A", "B", "D"}),
        ("METAL_FUNC vec<T, 4> f(const device T* x, uint n) { int y = 1; }", {"f"}),
        ("struct A operator+(A x, A y) { return x; }", set()),
        (
            "#define A(x) \\\n  int x;\nusing B = vec<float, 4>;\nusing namespace metal;",
            {"A", "B"},
        ),
        ("enum A { B, C };\nnamespace D { int e; }\ntypedef half2 E;", {"A", "D", "E"}),
        ("// int a;\n/* int b; */ int c;", {"c"}),
    ],
)
def test_global_names_of(source, names):
    assert set(global_names(source)) == names
