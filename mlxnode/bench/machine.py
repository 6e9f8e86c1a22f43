"""This machine: what it is, and the share of its memory bandwidth that decode steps use."""

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence

from mlxnode.bench.figures import Figure
from mlxnode.doctor.system import packages, processor
from mlxnode.errors import StatusError
from mlxnode.process.status_socket import read_status

_TIMEOUT = 120  # seconds


def facts() -> Mapping[str, str]:
    """The chip, the system and the versions that belong to every figure."""
    return {
        "processor": processor().text,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": packages().text,
    }


def copy_bandwidth() -> float | None:
    """Bytes per second; None if the measurement fails."""
    command = [sys.executable, "-P", "-m", "mlxnode.bench.copy_rate"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
        return float(result.stdout) if result.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def weight_bytes(port: int, model: str) -> int | None:
    """The bytes of the weights of a model of the node on ``port``; None if nobody says so."""
    try:
        engine = read_status(port).engine
    except StatusError:
        return None
    models = engine.models if engine is not None else []
    found = next((one.weight_bytes for one in models if one.id == model), 0)
    return found or None


def shares(figures: Sequence[Figure], weights: int, bandwidth: float) -> dict[str, float]:
    """The share of the bandwidth that reads the weights once for each token, by server.

    Of one answer at a time. It can be above 1 where the processor caches the weights, where
    draft tokens come many a step, and where a step reads the weights of some experts only.
    """
    return {
        figure.server: weights / (figure.value / 1000) / bandwidth
        for figure in figures
        if figure.name == "TPOT" and figure.num_clients == 1 and figure.value
    }
