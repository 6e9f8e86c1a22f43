"""The tiny models cover mlx-lm, and docs/models.md covers them."""

import importlib.util
import re
from pathlib import Path

import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import MODEL_ARCHITECTURE_REMAPPING, MODEL_REMAPPING
from support import architectures
from support.models_table import DOCUMENT, rows
from support.notation_templates import FAMILIES

MODELS = Path(importlib.util.find_spec("mlx_lm").submodule_search_locations[0]) / "models"
# Modules without a tiny model. The reason is a text that stands in the module itself.
EXCEPTIONS = {
    "olmo": "To run olmo install ai2-olmo",  # it ends the process where that is missing
    "prism_hadamard_qwen35": "Hadamard packs require 2-bit affine weights",  # of one packer
}


def modules() -> set[str]:
    """The modules of mlx-lm that have a model."""
    files = MODELS.glob("*.py")
    defines = re.compile(r"(?m)^class Model\b|^from .* import .*\bModel\b")
    return {file.stem for file in files if defines.search(file.read_text())}


def covered() -> set[str]:
    found = set()
    for config in architectures.configs().values():
        kind = config["model_type"]
        key = (kind, *config.get("architectures", []))
        found.add(MODEL_ARCHITECTURE_REMAPPING.get(key) or MODEL_REMAPPING.get(kind, kind))
    return found


def test_every_model_of_mlx_lm_has_a_tiny_one_or_a_reason():
    assert covered() | set(EXCEPTIONS) == modules()
    assert not covered() & set(EXCEPTIONS)
    for name, reason in EXCEPTIONS.items():
        assert reason in (MODELS / f"{name}.py").read_text(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.configs())
def test_a_tiny_model_is_small(name):
    model = architectures._build(architectures.configs()[name], 0, evaluate=False)
    size = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    assert size < 20e6, f"{name}: {size / 1e6:.0f} MB"


def test_the_document_shows_that_every_family_passes():
    shown = DOCUMENT.read_text().partition("## Families")[2]
    assert all(f"\n| {name} |" in shown for name in FAMILIES)
    assert "**wrong**" not in shown and "not run" not in shown


def test_the_document_lists_the_architectures_of_the_table():
    assert [row.split("|")[1].strip(" `") for row in rows(DOCUMENT.read_text())] == sorted(
        architectures.configs(), key=str.lower
    )
