"""A probe in a process of its own: what ends or blocks that process is a finding."""

import json
import os
import signal
import subprocess
import sys

import msgspec

from mlxnode.doctor.findings import Finding, Section

_LAST_LINES = 5  # of what a failed probe wrote


def run_probe(
    name: str, *, timeout: float, environment: dict[str, str] | None = None, **options: object
) -> Section:
    """The section that the probe makes; a failed finding if the probe does not end well.

    ``options`` are arguments of the probe. ``environment`` is set for its process.
    """
    command = [sys.executable, "-m", "mlxnode.doctor.probes", name, json.dumps(options)]
    try:
        result = subprocess.run(
            command,
            env=os.environ | (environment or {}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        finding = Finding(name, "fail", f"no result within {timeout:.0f} s")
        return Section(name, [finding])
    if result.returncode == 0:
        last = result.stdout.strip().rpartition("\n")[2]
        return msgspec.json.decode(last, type=Section)
    code = result.returncode
    how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
    written = "\n".join(result.stderr.strip().splitlines()[-_LAST_LINES:])
    return Section(name, [Finding(name, "fail", f"the probe ended with {how}")], log=written)
