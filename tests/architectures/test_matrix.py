"""Every text architecture of mlx-lm, cell by cell. docs/models.md is made from the full run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from support import architectures, matrix
from support.models_table import RESULTS

ROOT = Path(__file__).parents[2]
# The families that people run, in the process of the tests.
QUICK = [
    "deepseek_v3",
    "gemma3_text",
    "gemma3n",
    "gemma4_text",
    "gpt_oss",
    "granitemoehybrid",
    "lfm2",
    "llama",
    "ministral3",
    "nemotron_h",
    "qwen3",
    "qwen3_5",
]
# What a node refuses by name at its start, with a pattern of the reason.
REFUSED = {
    "bitnet": "Metal|GPU",  # its kernels; the tests use the CPU
    "deepseek_v41": "LayerCache",  # a cache that no other model has
    "muse_spark": "Metal|GPU",
}


def wrong_cells(name: str, cells: dict[str, matrix.Cell]) -> dict[str, str]:
    """The cells that are neither right, nor refused for the reason that is known."""
    if name in REFUSED:
        reason = cells["loads"].note
        return {} if re.search(REFUSED[name], reason) else {"refused": reason}
    wrong = {cell: found.note for cell, found in cells.items() if found.state == "no"}
    missing = dict.fromkeys(set(matrix.CELLS) - set(cells), "missing")
    return wrong | missing if "loads" not in wrong else wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", matrix.INEXACT)
def test_an_inexact_model_of_mlx_lm_is_so_by_itself(name):
    model = architectures.build_plain(name)
    tokens = mx.array([[5 + 37 * i % 250 for i in range(24)]])

    def after(*parts: mx.array) -> mx.array:
        cache = make_prompt_cache(model)
        for part in parts:
            logits = model(part, cache=cache)
        return logits[0, -1] - mx.logsumexp(logits[0, -1])

    whole, in_parts = after(tokens), after(tokens[:, :8], tokens[:, 8:16], tokens[:, 16:])
    # Tokens that the model excludes have no log-probability.
    assert mx.nan_to_num(mx.abs(whole - in_parts)).max().item() > 2e-3


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_family_that_people_run_has_every_cell_right(name):
    assert wrong_cells(name, matrix.check(name)) == {}


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", architectures.configs())
def test_an_architecture_has_every_cell_right(name):
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.unlink(missing_ok=True)
    # A process of its own: a fault of one model must not be taken for a fault of the next.
    command = [sys.executable, "-m", "support.matrix", name, str(file)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
    )
    assert file.exists(), process.stdout[-2000:]
    cells = {cell: matrix.Cell(*found) for cell, found in json.loads(file.read_text()).items()}
    assert wrong_cells(name, cells) == {}
