"""How the weights of a model are quantized, in words."""

import json
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
from support import tiny

from mlxnode.config.tables import ModelConfig
from mlxnode.models.describe import describe
from mlxnode.models.files import ModelFiles
from mlxnode.models.quantization import quantization_of
from mlxnode.models.served import ServedModel


@pytest.fixture
def served(tmp_path) -> ServedModel:
    folder = tiny.make_chat_model(tmp_path / "tiny")
    return describe("m", ModelConfig(path="m", type="chat"), ModelFiles(folder, folder))


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({}, ""),
        ({"quantization": {"bits": 4, "group_size": 64}}, "4 bits"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "4 bits"),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ({"quantization": {"mode": "mxfp4"}}, "mxfp4"),
        ({"quantization": "odd"}, ""),
    ],
)
def test_quantization_of_a_folder_is_that_of_its_config(served, table, text):
    file = served.folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | table))
    assert quantization_of(served) == text


def test_quantization_on_load_is_told(served):
    assert quantization_of(replace(served, quantize=8)) == "8 bits, on load"


@pytest.mark.parametrize(
    ("value", "text"),
    [(gguf.LlamaFileType.MOSTLY_Q4_K_M, "Q4_K_M"), (gguf.LlamaFileType.ALL_F32, "F32")],
)
def test_quantization_of_a_gguf_file_is_its_file_type(served, tmp_path: Path, value, text):
    file = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_file_type(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert quantization_of(replace(served, weights=file)) == text
