"""Each kernel as operations, in the emulator and on an Apple GPU."""

import pytest


@pytest.fixture(
    params=[
        "ops",
        pytest.param("emulated", marks=pytest.mark.slow),
        pytest.param("gpu", marks=[pytest.mark.metal, pytest.mark.parity]),
    ]
)
def is_metal(request) -> bool:
    """True to test the Metal kernel, in the emulator or on a GPU; False for the operations."""
    if request.param == "emulated":
        request.getfixturevalue("emulated")
    return request.param != "ops"
