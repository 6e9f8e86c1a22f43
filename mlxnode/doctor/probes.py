"""The probes: whatever needs mlx. ``python -m mlxnode.doctor.probes NAME '{"option": 1}'``.

Prints the section as JSON, in the last line of its output.
"""

import importlib
import json
import sys

import msgspec

from mlxnode.doctor.findings import Section
from mlxnode.engine import cpu

# Name -> the module of this package with the function of that name.
PROBES = {
    "device": "device",
    "device_facts": "device",
    "kernel_variants": "kernels",
    "float32_products": "precision",
    "bandwidth": "bandwidth",
    "kv_updates": "kv",
    "demo_model": "speed",
}


def run(name: str, options: dict[str, object]) -> Section:
    """Run the probe in this process."""
    cpu.prepare_process()  # before the probe imports mlx
    module = importlib.import_module(f"mlxnode.doctor.{PROBES[name]}")
    return getattr(module, name)(**options)


if __name__ == "__main__":
    section = run(sys.argv[1], json.loads(sys.argv[2]))
    print(f"\n{msgspec.json.encode(section).decode()}")
