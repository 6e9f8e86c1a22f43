"""Two and three ranks answer as one process does: real processes, MLX's ring on loopback."""

from pathlib import Path
from typing import Any

import pytest
from support import architectures
from support.ring import open_model, run_on_ranks
from support.running import make, make_runner, mixed, run, step

from mlxnode.engine.work import RequestKey

# Ranks that wait for each other take a processor each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LAYERS = {"num_hidden_layers": 4}
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 3}  # for three ranks
SIX = HEADS | {"hidden_size": 192, "intermediate_size": 192}
# Plain attention, mixture of experts, sliding windows with sinks, states, latent attention.
TENSOR = {"llama": {}, "qwen3_moe": {}, "gpt_oss": {}, "qwen3_5": {}, "deepseek_v3": {}}
TENSOR_OF_THREE = {
    "llama": SIX,
    "qwen3": SIX,
    "gpt_oss": SIX,
    "deepseek_v3": SIX | {"moe_intermediate_size": 192},
}
PIPELINE = {"qwen2": LAYERS, "qwen3_moe": LAYERS, "qwen3_next": {}, "deepseek_v3": {}}


def everything(models: list[Any]) -> list[Any]:
    """What each model answers to requests of all kinds."""
    return [
        [plain(model), quantized(model), drafted(model), aborted(model)] for model in models
    ]


def plain(model: Any) -> list[dict[int, list[int]]]:
    """Rows join and leave; the second batch finds prefixes, running and finished ones."""
    runner = make_runner(model)
    first = run(runner, *[mixed(uid) for uid in range(6)])
    second = run(runner, *[mixed(uid) for uid in range(3, 9)], make(20, 400), make(21, 100))
    third = run(runner, *[make(20, 500), make(21, 90), make(20, 300)])
    return [first, second, third]


def quantized(model: Any) -> dict[int, list[int]]:
    return run(make_runner(model, kv_cache_bits=8), *[make(uid, 40) for uid in range(3)])


def drafted(model: Any) -> dict[int, list[int]]:
    """Random models repeat themselves, so that drafts are right."""
    runner = make_runner(model, num_speculative_tokens=4)
    return run(runner, *[make(uid, 30, 80) for uid in range(2)])


def aborted(model: Any) -> dict[int, list[int]]:
    """One request goes while it runs, one while its prompt is processed, and others come."""
    runner = make_runner(model)
    for uid, prompt in enumerate((20, 30, 600)):
        assert runner.add_request(make(uid, prompt, 40)) is None
    for _ in range(3):
        step(runner)
    runner.abort(RequestKey(1, 0))
    runner.abort(RequestKey(1, 2))
    return run(runner, make(5, 25), make(6, 35))


@pytest.mark.parametrize(
    ("size", "strategy", "families"),
    [
        (2, "tensor", TENSOR),
        pytest.param(3, "tensor", TENSOR_OF_THREE, marks=pytest.mark.long),
        pytest.param(2, "pipeline", PIPELINE, marks=pytest.mark.long),
        pytest.param(3, "pipeline", PIPELINE, marks=pytest.mark.long),
    ],
)
def test_ranks_answer_as_one_process(
    tmp_path: Path, size: int, strategy: str, families: dict[str, dict[str, Any]]
):
    folders = [
        architectures.write_folder(name, tmp_path / name, **changes)
        for name, changes in families.items()
    ]
    alone = everything([open_model(folder) for folder in folders])
    models = [{"folder": folder, "strategy": strategy} for folder in folders]
    together = run_on_ranks(size, tmp_path, models, everything)
    for name, one, several in zip(families, alone, together, strict=True):
        for kind, expected, found in zip(
            ("plain", "quantized", "drafted", "aborted"), one, several, strict=True
        ):
            assert found == expected, (name, kind)
