"""How long imports and the load of the demo model take, and how fast the model decodes."""

import subprocess
import sys
import time
from pathlib import Path

from mlxnode.config.demo import demo_tables
from mlxnode.config.tables import NodeConfig
from mlxnode.doctor.findings import Finding, Section
from mlxnode.models.describe import describe
from mlxnode.models.files import find_files

IMPORTS = (
    "mlxnode.cli.group",
    "mlx.core",
    "mlx_lm",
    "mlxnode.engine.main",
    "mlxnode.server.worker",
)
_TIMEOUT = 120.0  # seconds


def import_times() -> Section:
    """Seconds that a new process takes to import the parts of a node, twice each."""
    table = [["module", "first", "again"]]
    for module in IMPORTS:
        code = f"import time; t = time.perf_counter(); import {module}; "
        code += "print(time.perf_counter() - t)"
        table.append([module, *(_seconds(code) for _ in range(2))])
    return Section("Import times", table=table)


def demo_model() -> Section:
    """The load and the speed of the chat model of the demo configuration, if it is on disk."""
    models = NodeConfig.model_validate(demo_tables()).api.models
    id, config = next((id, model) for id, model in models.items() if model.type == "chat")
    files = find_files(config.path, Path.cwd())
    if files is None:
        finding = Finding(id, "info", "not on disk: `mlxnode serve` without a file fetches it")
        return Section("Demo model", [finding])
    # Only here: they import mlx.
    from mlxnode.doctor.decoding import ON_CPU, ON_GPU, is_on_gpu, measure_decoding
    from mlxnode.engine.loader import load_generation_model

    started_at = time.perf_counter()
    model = load_generation_model(describe(id, config, files))
    found = [Finding("load", "info", f"{id} in {time.perf_counter() - started_at:.2f} s")]
    table = [["rows", "prefill", "decode"]]
    prompt = (ON_GPU if is_on_gpu() else ON_CPU).prompt
    for rows in (1, 16):
        decoding = measure_decoding(model, rows, vocabulary=40_000, prompt=prompt)
        prefill = rows * prompt / decoding.prefill_seconds
        decode = rows / decoding.step_seconds
        table.append([str(rows), f"{prefill:.0f} tokens/s", f"{decode:.1f} tokens/s"])
    return Section("Demo model", found, table)


def _seconds(code: str) -> str:
    command = [sys.executable, "-c", code]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"more than {_TIMEOUT:.0f} s"
    lines = (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()
    if result.returncode == 0:
        return f"{float(lines[-1]):.2f} s"
    return lines[-1] if lines else "fails"
