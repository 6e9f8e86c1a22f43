"""Architectures of GGUF files: their models compute what the source models compute."""

from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear
from support.engine_process import serve_tiny
from support.gguf_files import CASES, make_model, tensors_of, write_model

from mlxnode.config.tables import EngineConfig
from mlxnode.engine import cpu
from mlxnode.engine.cpu.model import widen_weights
from mlxnode.engine.fit.served import needs_of_served
from mlxnode.engine.gguf.model import open_gguf
from mlxnode.engine.loader import load_generation_model
from mlxnode.errors import ModelError
from mlxnode.models.gguf.architectures import ARCHITECTURES
from mlxnode.models.gguf.folder import model_folder

# Longer than the windows of 16, and than the original context of scaled rotary embeddings.
PROMPT = mx.array([[5 + 37 * i % 250 for i in range(70)]])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))


def mixed(name: str, array: np.ndarray) -> str:
    """Types as in the files that people have: experts, embedding and the rest differ."""
    if "exps.weight" in name:
        return "MXFP4"
    if "exps" in name or "ffn_gate_inp" in name:
        return "F32"
    return "Q8_0" if "token_embd" in name else "Q5_1" if "attn_v" in name else "Q4_0"


def write(case_name: str, folder: Path, kind_of=lambda name, array: "F32") -> tuple:
    """The source model, with weights rounded as the file's are, and the file."""
    case = CASES[case_name]
    source, config = make_model(case, folder / "source")
    file = write_model(folder / "m.gguf", case, source, config, folder / "source", kind_of)
    return source, case, config, file


def test_every_architecture_has_a_case():
    assert {case.architecture for case in CASES.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("case_name", CASES)
def test_gguf_gives_the_logits_of_the_source(case_name, tmp_path):
    source, _, _, file = write(case_name, tmp_path)
    loaded = load_generation_model(serve_tiny(model_folder(file), weights=file))
    np.testing.assert_allclose(loaded(PROMPT), source(PROMPT), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case_name", CASES)
def test_gguf_with_quantized_tensors_gives_the_logits_of_their_values(case_name, tmp_path):
    source, case, config, file = write(case_name, tmp_path, mixed)
    rounded = read_back(file)
    assert set(rounded) == set(tensors_of(case, source, config))
    dense = write_dense(case, source, config, tmp_path, rounded)
    expected = load_generation_model(serve_tiny(model_folder(dense), weights=dense))
    loaded = load_generation_model(serve_tiny(model_folder(file), weights=file))
    np.testing.assert_allclose(loaded(PROMPT), expected(PROMPT), rtol=1e-4, atol=1e-4)
    assert np.abs(loaded(PROMPT) - source(PROMPT)).max() > 1e-3


def read_back(file: Path) -> dict[str, np.ndarray]:
    """The values of the tensors, by gguf-py."""
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(file).tensors
    }


def write_dense(case, source, config, folder: Path, values: dict[str, np.ndarray]) -> Path:
    """The file with these values in float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("support.gguf_files.tensors_of", lambda *_: values)
        return write_model(folder / "dense.gguf", case, source, config, folder / "source")


@pytest.mark.parametrize("case_name", ["llama", "gemma3", "qwen3moe", "gpt-oss"])
def test_gguf_stays_quantized_on_a_gpu(case_name, tmp_path, monkeypatch):
    _, case, _, file = write(case_name, tmp_path, mixed)
    served = serve_tiny(model_folder(file), weights=file)
    expected = load_generation_model(served)(PROMPT)

    monkeypatch.setattr(cpu, "is_used", lambda: False)
    model = load_generation_model(served)
    half = mx.bfloat16 if ARCHITECTURES[case.architecture].overflows_half else mx.float16
    assert {array.dtype for _, array in tree_flatten(model.parameters())} <= {
        half,
        mx.uint32,
        mx.uint8,  # scales of MXFP4
    }
    dense = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Embedding)
        and not path.endswith(("gate", "router"))
    ]
    assert dense == []
    experts = [m for m in model.modules() if isinstance(m, QuantizedSwitchLinear)]
    assert all((m.mode, m.bits, m.group_size) == ("mxfp4", 4, 32) for m in experts)
    assert bool(experts) == ("moe" in case_name or "oss" in case_name)
    assert model(PROMPT).dtype == half

    # Computed in float32, so that only the rounding of scales and norms is left.
    widen_weights(model)
    error = mx.abs(model(PROMPT) - expected).mean() / mx.abs(expected).mean()
    print(case_name, error)
    assert error < (0.01 if half == mx.float16 else 0.1)


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("case_name", ["llama-factors", "gemma3", "gpt-oss", "phi3-longrope"])
def test_gguf_needs_the_bytes_that_it_has_when_loaded(case_name, gpu, tmp_path, monkeypatch):
    _, _, _, file = write(case_name, tmp_path, mixed)
    if gpu:
        monkeypatch.setattr(cpu, "is_used", lambda: False)
    served = serve_tiny(model_folder(file), weights=file)
    planned = needs_of_served(served, EngineConfig()).weights
    model = load_generation_model(served)
    assert planned == sum(array.nbytes for _, array in tree_flatten(model.parameters()))


def test_gguf_names_a_tensor_that_is_missing_or_unexpected(tmp_path):
    case = CASES["qwen3"]
    source, config = make_model(case, tmp_path / "source")
    tensors = tensors_of(case, source, config)

    def refused(values: dict[str, np.ndarray]) -> str:
        file = write_dense(case, source, config, tmp_path, values)
        with pytest.raises(ModelError) as caught:
            open_served(file)
        return str(caught.value)

    without = {
        name: array for name, array in tensors.items() if "blk.1.attn_k_norm" not in name
    }
    assert "model.layers.1.self_attn.k_norm.weight" in refused(without)
    assert "unexpected tensor blk.0.ssm_a" in refused(
        tensors | {"blk.0.ssm_a": np.ones(4, np.float32)}
    )
    assert "shape" in refused(tensors | {"blk.0.ffn_up.weight": np.ones((4, 4), np.float32)})


def open_served(file: Path) -> nn.Module:
    return load_generation_model(serve_tiny(model_folder(file), weights=file))


def test_gguf_refuses_rotary_factors_of_another_size(tmp_path):
    source, case, config, _ = write("llama-factors", tmp_path)
    values = tensors_of(case, source, config)
    values["rope_freqs.weight"] = values["rope_freqs.weight"][:-1]
    file = write_dense(case, source, config, tmp_path, values)
    with pytest.raises(ModelError, match=r"rope_freqs.weight has the shape \(15,\)"):
        open_gguf(model_folder(file), file)
