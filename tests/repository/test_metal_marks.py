"""Which tests run on which Metal device."""

import pytest
from support import metal_device


@pytest.mark.parametrize(
    ("device", "metal", "parity"),
    [
        ("", "no Metal device", "no Metal device"),
        ("Apple M5", "", ""),
        ("Apple Paravirtual device", "", "Apple Paravirtual device: results are compared"),
    ],
)
def test_parity_needs_an_apple_gpu_and_the_other_tests_any_metal_device(
    monkeypatch, device, metal, parity
):
    monkeypatch.setattr(metal_device, "metal_device", lambda: device)
    assert metal_device.why_not_on_metal(False) == metal
    assert metal_device.why_not_on_metal(True).startswith(parity)
    assert bool(metal_device.why_not_on_metal(True)) == bool(parity)
