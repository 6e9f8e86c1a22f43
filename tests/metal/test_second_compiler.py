"""clang's C++ for OpenCL accepts every variant, and finds faults of address spaces."""

import os
import re
import sys

import pytest
from metal import write_sources
from metal.second_compiler import check_address_spaces, find_clang
from metal.translate import RefusedError

pytestmark = pytest.mark.slow
NO_CLANG = "no clang with C++ for OpenCL: install the package clang"


@pytest.fixture(autouse=True)
def clang() -> None:
    if find_clang() is None:
        assert not (os.environ.get("CI") and sys.platform == "linux"), NO_CLANG
        pytest.skip(NO_CLANG)


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """What MLX generates for each variant, by the constants of its template."""
    found = {kind: write_sources.sources()[kind] for kind in ("sample", "pool")}
    return {
        kind + re.findall(r"<[\w, ]+>", source)[-1]: source
        for kind, texts in found.items()
        for source in texts
    }


def test_all_variants_are_there(sources):
    dtypes = ("float", "float16_t", "bfloat16_t")
    sample = {f"sample<{t}, {edits}, {n}>" for t in dtypes for edits in (0, 1) for n in (0, 20)}
    assert set(sources) == sample | {f"pool<{t}, {n}>" for t in dtypes for n in (0, 1)}


def test_clang_accepts_every_variant(sources):
    for source in sources.values():
        check_address_spaces(source)


# A change of the kernel that Metal's compiler would refuse -> what clang or the rules say.
FAULTS = {
    "a device pointer as a threadgroup pointer": (
        "group_max(edited.peak, shared, my)",
        "group_max(edited.peak, *(device Shared*)tokens, my)",
        "address space",
    ),
    "a thread reference to a threadgroup object": (
        "    uint token = 0;\n",
        "    uint token = 0;\n    thread uint& other = shared.token;\n",
        "cannot bind|address space",
    ),
    "a threadgroup pointer to a thread variable": (
        "    uint token = 0;\n",
        "    uint token = 0;\n    threadgroup uint* other = &token;\n",
        "cannot initialize a variable of type '__local uint",
    ),
    "logits as memory of the threadgroup": (
        "  const device T* logits;",
        "  const threadgroup T* logits;",
        "address space",
    ),
    "ids as constants": (
        "  const device int* ids;",
        "  const constant int* ids;",
        "address space",
    ),
    "a device pointer that may be written": (
        "  const device float* biases;",
        "  device float* biases;",
        "const",
    ),
    "a write to an input": (
        "      tokens[index] = int(token);",
        "      tokens[index] = int(token);\n      top_k[index] = 0;",
        "read-only|const",
    ),
    "a write to a constant": (
        "    uint token = 0;\n",
        "    uint token = 0;\n    LANES = 1;\n",
        "read-only|const",
    ),
    "a pointer parameter without an address space": (
        "threadgroup Shared& shared, ThreadIndices my) {\n  value = simd_max",
        "Shared& shared, ThreadIndices my) {\n  value = simd_max",
        "'Shared & shared' names no address space",
    ),
    "a member without an address space": (
        "  const device uint* mask;",
        "  const uint* mask;",
        "'const uint . mask' names no address space",
    ),
    "a method without an address space": (
        "float own_weight) const thread {",
        "float own_weight) const {",
        "a method",
    ),
    "a method of thread objects for one of the threadgroup": (
        "    Totals raw, edited;",
        "    threadgroup Totals shared_totals;\n    shared_totals.mass_from(1.0f, 1.0f);\n"
        "    Totals raw, edited;",
        "address space|not viable|initializ",
    ),
    "a method that changes a const object": (
        "  Prefix seek(",
        "  void forget() const thread { top_mass = 0.0f; }\n  Prefix seek(",
        "const",
    ),
    "maximum of two types": (
        "min(uint(TOPS), row.size)",
        "min(TOPS, row.size)",
        "no matching function|ambiguous",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(sources, fault):
    old, new, message = FAULTS[fault]
    source = sources["sample<float, 1, 20>"]
    assert old in source
    with pytest.raises(RefusedError, match=message):
        check_address_spaces(source.replace(old, new))
