"""Each kernel by its operations, in the emulator and on an Apple GPU."""

import pytest


@pytest.fixture(
    params=[
        "ops",
        pytest.param("emulated", marks=pytest.mark.slow),
        pytest.param("gpu", marks=pytest.mark.metal),
    ]
)
def is_metal(request) -> bool:
    """Whether the Metal kernel is tested, in the emulator or on a GPU, or its twin."""
    if request.param == "emulated":
        request.getfixturevalue("emulated")
    return request.param != "ops"
