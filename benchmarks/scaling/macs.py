"""Macs and models by name: published figures, and what is assumed from them.

None of these is a measurement of this project. The sources are beside the figures.
"""

from dataclasses import dataclass

from scaling.costs import Costs, Line, Memory

# mlx-lm's BENCHMARKS.md (github.com/ml-explore/mlx-lm, mlx-lm 0.28.2): Qwen3-4B-Instruct-2507
# in 4 bits on an M4 Max reads a prompt of 2,048 tokens at 1,622 tokens/s; it generates 134.5/s.
_PROMPT_RATE, _GENERATION_RATE = 1622.0, 134.5  # tokens a second
_PARAMETERS, _BYTES_PER_WEIGHT = (
    4.02e9,
    4.5 / 8,
)  # 4 bits, and a scale and a bias for 64 of them
_CORES, _BANDWIDTH = (
    40,
    546e9,
)  # of that M4 Max (apple.com, Mac Studio, technical specifications)
# So it computes 13 TFLOP/s in prompts, and reads weights with 56 % of the bandwidth. A check on
# another chip: 9e9 parameters in 4 bits on an M3 Ultra with 60 cores, 1,060 to 1,124 prompt
# tokens/s and 107 generated (huggingface.co/allenai/tmax-9b, discussion 2); this gives 1,087
# and 90.
FLOPS_PER_CORE = 2 * _PARAMETERS * _PROMPT_RATE / _CORES
EFFICIENCY = _GENERATION_RATE * _PARAMETERS * _BYTES_PER_WEIGHT / _BANDWIDTH
# A step of B rows takes 1 + ROW * (B - 1) times that of one. mlx-lm's pull request 468: 32 rows
# have 6.1 times the throughput of one, so a step takes 5.3 times as long (granite-4.0-tiny in 4
# bits); 478: 16 rows have 4.6 times (Qwen3-Next), so 3.5 times.
ROW = 0.14
HTTP = Line(0.004, 2e-6)  # seconds, and by token; the order of what `fit` finds on a CPU
MEMORY_SHARE = 0.7  # of the Mac's memory that models and caches may use


@dataclass(frozen=True)
class Mac:
    """Watts at the wall. ``is_power_assumed``: of the same case with the chip before."""

    name: str
    bandwidth: float  # bytes a second
    cores: int  # of the GPU
    memory: float  # bytes
    idle_watts: float
    max_watts: float
    is_power_assumed: bool = False


# Bandwidths: Apple's technical specifications and announcements. Watts: Apple's page
# support.apple.com/102027 (Mac Studio) for M2 Max and M2 Ultra; for M4 Max and M3 Ultra, those
# of the M2 in the same case.
MACS = {
    "m2-max": Mac("Mac Studio, M2 Max, 64 GB", 400e9, 30, 64e9, 9, 145),
    "m2-ultra": Mac("Mac Studio, M2 Ultra, 192 GB", 800e9, 76, 192e9, 10, 295),
    "m4-max": Mac("Mac Studio, M4 Max, 128 GB", 546e9, 40, 128e9, 9, 145, True),
    "m3-ultra": Mac("Mac Studio, M3 Ultra, 256 GB", 819e9, 80, 256e9, 10, 295, True),
}


@dataclass(frozen=True)
class Model:
    """``active``: the parameters that a token is computed with, of a mixture of experts."""

    name: str
    parameters: float
    active: float
    kv_bytes: float  # of one token: 2 (keys, values) * 2 bytes * layers * heads * size


# From the config.json of each: layers, key-value heads, size of a head.
MODELS = {
    "4b": Model("Qwen3-4B, 4 bits", 4.02e9, 4.02e9, 2 * 2 * 36 * 8 * 128),
    "8b": Model("Qwen3-8B, 4 bits", 8.19e9, 8.19e9, 2 * 2 * 36 * 8 * 128),
    "32b": Model("Qwen3-32B, 4 bits", 32.8e9, 32.8e9, 2 * 2 * 64 * 8 * 128),
}


def costs_of(mac: Mac, model: Model) -> Costs:
    """What the published figures make of ``model`` on ``mac``. An assumption."""
    read = model.active * _BYTES_PER_WEIGHT / (mac.bandwidth * EFFICIENCY)
    token = 2 * model.active / (mac.cores * FLOPS_PER_CORE)
    weights = model.parameters * _BYTES_PER_WEIGHT
    tokens = (MEMORY_SHARE * mac.memory - weights) / model.kv_bytes
    if tokens < 1:
        raise ValueError(f"{model.name} does not fit into {mac.name}")
    return Costs(
        http=HTTP,
        prefill=Line(read, token),
        step={rows: read * (1 + ROW * (rows - 1)) for rows in (1, 32)},
        step_context=model.kv_bytes / (mac.bandwidth * EFFICIENCY),
        memory=Memory(tokens, tokens / 4),  # prefix_cache_gb: a quarter
        origin=f"assumed: {model.name} on {mac.name}",
    )
