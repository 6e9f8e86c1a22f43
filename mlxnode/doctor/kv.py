"""Whether decode steps copy the KV cache: the table of ``kv_update`` for a report. A probe."""

from mlxnode.doctor.decoding import is_on_gpu
from mlxnode.doctor.findings import Finding, Section
from mlxnode.doctor.kv_update import LENGTHS, check_slots

_COPIED = 0.5  # of the cache, in a step; 0.05 or so are temporary arrays


def kv_updates() -> Section:
    """The writes of the product with each way to launch, for short rows and for long ones."""
    measured = [m for length in LENGTHS[: 2 if is_on_gpu() else 1] for m in check_slots(length)]
    table = [["write", "launch", "tokens a row", "step", "share of the cache copied"]]
    table += [
        [m.write, m.launch, str(m.length), f"{m.step_ms:.2f} ms", f"{m.copied:.2f}"]
        for m in measured
    ]
    copied = [m for m in measured if m.launch == "halves" and m.copied > _COPIED]
    text = "copied" if copied else "written in place"
    found = Finding("KV cache", "warn" if copied else "ok", f"{text} by the steps of a node")
    return Section("KV updates", [found], table)
