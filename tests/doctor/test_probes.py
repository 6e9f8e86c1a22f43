"""The probes in their processes, and what becomes of one that does not end well."""

import mlx.core as mx
import pytest

from mlxnode.doctor import child, device, kernels, kv, probes
from mlxnode.doctor.findings import Section
from mlxnode.doctor.kv_update import Measurement
from mlxnode.kernels.variants import VariantResult


@pytest.fixture
def instead(monkeypatch, tmp_path):
    """A function that makes the probes run that code in their process."""

    def make(code: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(f"import os, signal, time\n{code}\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


def test_probe_that_its_process_does_not_survive(instead):
    instead("print('Abort', file=__import__('sys').stderr, flush=True); os.abort()")
    section = child.run_probe("device_facts", timeout=60)
    assert [(f.status, f.text) for f in section.findings] == [
        ("fail", "the probe ended with SIGABRT")
    ]
    assert "Abort" in section.log


def test_probe_that_raises(instead):
    instead("import sys; print('no such thing', file=sys.stderr, flush=True); os._exit(3)")
    section = child.run_probe("device_facts", timeout=60)
    assert section.findings[0].text == "the probe ended with exit code 3"
    assert section.log == "no such thing"


def test_probe_that_hangs(instead):
    instead("signal.pause()")
    section = child.run_probe("device_facts", timeout=0.5)
    assert section.findings[0].status == "fail" and "0 s" in section.findings[0].text


@pytest.mark.slow
def test_probe_of_the_device():
    options = {"weights": 10**9, "memory_gb": 0.5, "is_mac": False}
    section = child.run_probe("device", timeout=60, **options)
    statuses = {finding.name: finding.status for finding in section.findings}
    assert statuses["memory"] == "fail"
    facts = child.run_probe("device_facts", timeout=60).table
    assert {"architecture", "MLX wired limit"} <= {row[0] for row in facts}


@pytest.mark.slow
def test_probe_of_products_tells_how_exact_they_are():
    section = child.run_probe(
        "float32_products", timeout=60, environment={"MLX_ENABLE_TF32": "0"}
    )
    assert section.title.endswith("MLX_ENABLE_TF32 0")
    assert "computed as float32" in section.findings[0].text


def test_every_probe_is_a_function_of_its_module():
    for name, module in probes.PROBES.items():
        assert callable(getattr(__import__(f"mlxnode.doctor.{module}", fromlist=[name]), name))


# --- the device, as on Macs that this machine is not ----------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """MLX reports the GPU of a Mac with a working set of 10 GB."""
    info = {"device_name": "Apple M1", "max_recommended_working_set_size": 10**10}
    monkeypatch.setattr(mx, "device_info", lambda: info)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu, 0))
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)


def test_device_of_a_mac(gpu, monkeypatch):
    monkeypatch.setattr(device, "check_variant", lambda _: VariantResult("a", True, 1.0, ""))
    section = device.device(weights=8 * 10**9, memory_gb=None, is_mac=True)
    assert [(f.name, f.status) for f in section.findings] == [
        ("device", "ok"),
        ("memory", "ok"),
        ("wired memory", "warn"),
        ("kernels", "ok"),
    ]
    assert device.wiring(10**9) == []


def test_device_of_a_mac_whose_kernels_do_not_work(gpu, monkeypatch):
    broken = VariantResult("sample(float16)", False, 1.0, "no such function\npages of output")
    monkeypatch.setattr(device, "check_variant", lambda _: broken)
    found = device.kernels()
    assert found.status == "warn" and "sample(float16): no such function" in found.text
    assert "pages" not in found.text


def test_variants_that_do_not_work_are_listed_with_what_the_compiler_says():
    works = VariantResult("pool(float16)", True, 0.5, "")
    broken = VariantResult("sample(float16)", False, 1.0, "no such function\npages of output")
    section = kernels.section_of([works, broken])
    assert [(f.status, f.text) for f in section.findings] == [("fail", "1 of 2 variants work")]
    assert section.table[1:] == [
        ["pool(float16)", "works", "0.50 s"],
        ["sample(float16)", "fails", "1.00 s"],
    ]
    assert "pages of output" in section.log
    assert kernels.section_of([works]).findings[0].status == "ok"


@pytest.mark.parametrize(("copied", "status"), [(0.05, "ok"), (0.9, "warn")])
def test_kv_updates_warn_of_copies_by_the_launches_of_a_node(monkeypatch, copied, status):
    def measured(length: int) -> list[Measurement]:
        shares = {"waited": 0.0, "pipelined": 1.0, "halves": copied}
        return [Measurement("scatter", how, 4, length, 1.5, x) for how, x in shares.items()]

    monkeypatch.setattr(kv, "check_slots", measured)
    section = kv.kv_updates()
    assert section.findings[0].status == status
    assert ["scatter", "halves", "500", "1.50 ms", f"{copied:.2f}"] in section.table


def test_device_that_a_mac_does_not_find(monkeypatch):
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    assert device.gpu(is_mac=True).status == "fail"
    assert device.gpu(is_mac=False).status == "info"


def test_products_in_few_bits_are_called_tf32(monkeypatch):
    from mlxnode.doctor import precision

    def rounded(array, dtype):
        """The factors with 10 bits of mantissa, as a GPU with TF32 takes them."""
        bits = mx.array(array, mx.float32).view(mx.uint32)
        return ((bits + (1 << 12)) & mx.array(0xFFFFE000, mx.uint32)).view(mx.float32)

    exact = precision.product_error(mx.float32)
    a, b = (mx.random.normal((256, 256), key=mx.random.key(i)) for i in range(2))
    product = rounded(a, None) @ rounded(b, None)
    expected = precision.as_float64(a) @ precision.as_float64(b)
    error = abs(precision.as_float64(product) - expected).mean() / abs(expected).mean()
    assert exact < precision.TF32_FROM < error


@pytest.mark.metal
@pytest.mark.parametrize(
    "name", ["device_facts", "kernel_variants", "float32_products", "kv_updates"]
)
def test_probes_on_a_gpu(name):
    section: Section = child.run_probe(name, timeout=100)
    assert not [finding for finding in section.findings if finding.status == "fail"]


@pytest.mark.metal
def test_bandwidth_on_a_gpu_is_shared_by_decode_steps():
    table = child.run_probe("bandwidth", timeout=110).table
    shares = {row[0]: float(row[-1].rstrip("%")) for row in table[1:]}
    assert set(shares) == {"1", "16"} and all(0 < share < 150 for share in shares.values())
