"""Damaged and hostile files of models: each is refused by name, in bounded time and memory."""

import os
import re
import tracemalloc
from pathlib import Path

import pytest
from support import tiny
from support.hostile_files import CASES, CONFIG, TOKENIZER, WEIGHTS, config

from mlxnode.config.tables import ApiConfig, NodeConfig
from mlxnode.models.resolve import resolve_each

MOST_MEMORY = 64 << 20  # bytes of Python objects; the largest of the files has 30 MB
UNREADABLE = (CONFIG, TOKENIZER, WEIGHTS)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny.make_chat_model(tmp_path / "model")


def reason_for(path: Path) -> str:
    """Why a node would not serve the model at ``path``."""
    api = ApiConfig(models={"m": {"path": str(path), "type": "chat"}})
    tracemalloc.start()
    try:
        resolved = resolve_each(NodeConfig(api=api), lambda text: None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    assert not resolved.models
    return resolved.failed["m"]


def test_the_model_works_before_it_is_damaged(folder):
    api = ApiConfig(models={"m": {"path": str(folder), "type": "chat"}})
    assert not resolve_each(NodeConfig(api=api), lambda text: None).failed


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_folder_is_refused_with_the_reason(folder, name):
    damage, expected = CASES[name]
    damage(folder)
    reason = reason_for(folder)
    assert re.search(expected, reason), reason
    assert len(reason) < 400 and "\n" not in reason
    assert "Error:" not in reason  # no type of Python


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_without_permission_is_refused(folder, name):
    (folder / name).chmod(0)
    assert "Permission denied" in reason_for(folder)


def test_a_gguf_file_that_never_ends_is_refused(tmp_path):
    os.mkfifo(tmp_path / "m.gguf")
    assert reason_for(tmp_path / "m.gguf").endswith("m.gguf is no file")


def test_a_safetensors_header_is_refused_when_cut_at_any_byte(folder):
    whole = (folder / WEIGHTS).read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    for end in [*range(0, length, 37), length - 1, length]:
        (folder / WEIGHTS).write_bytes(whole[:end])
        assert WEIGHTS in reason_for(folder)


def test_a_model_whose_layers_have_their_own_sizes_is_no_fault(folder):
    config(intermediate_size=[64, 64], num_experts=None)(folder)
    api = ApiConfig(models={"m": {"path": str(folder), "type": "chat"}})
    assert not resolve_each(NodeConfig(api=api), lambda text: None).failed
