"""Two and three ranks answer as one process does: real processes, MLX's ring on loopback."""

from pathlib import Path
from typing import Any

import pytest
from support import architectures
from support.ranks import open_model, run_on_ranks
from support.running import make, make_runner, mixed, run

pytestmark = pytest.mark.slow

FAMILIES = ["llama", "qwen3_moe", "gpt_oss", "qwen3_next", "deepseek_v3"]
# All can be shared by two and by three ranks.
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 6, "hidden_size": 192}


def mixed_load(models: list[Any], config: dict[str, Any]) -> dict[int, list[int]]:
    """Requests of all kinds, which join and leave; the second batch finds prefixes."""
    runner = make_runner(models[0], **config)
    first = run(runner, *[mixed(uid) for uid in range(6)])
    second = run(runner, *[mixed(uid) for uid in range(3, 9)], make(20, 100), make(21, 100))
    return first | {100 + uid: tokens for uid, tokens in second.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_two_ranks_with_tensor_parallelism_are_as_one(tmp_path: Path, family: str):
    folder = architectures.write_folder(family, tmp_path / "model")
    alone = mixed_load([open_model(folder)], {})
    together = run_on_ranks(2, tmp_path, [{"folder": folder}], mixed_load, {})
    assert together == alone
