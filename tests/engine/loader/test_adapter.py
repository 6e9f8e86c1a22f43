"""Adapters of mlx-lm on the modules of a model: the results of mlx-lm, or a clear error."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import load_adapters
from support import architectures, tiny
from support.adapters import load_as_mlx_lm, write_adapter
from support.engine_process import serve_tiny
from support.gguf_files import CASES, make_model, write_model

from mlxnode.engine import cpu
from mlxnode.engine.decode import projection
from mlxnode.engine.loader import load_generation_model
from mlxnode.engine.loader.bases import BaseWeights
from mlxnode.errors import ModelError
from mlxnode.models.gguf.folder import model_folder

PROMPT = mx.array([[5, 7, 20, 13, 42, 3]])
PROJECTIONS = [f"self_attn.{name}_proj" for name in "qkvo"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"), hidden=64)


def load(folder: Path, adapter: Path | None = None, **facts):
    return load_generation_model(serve_tiny(folder, adapter=adapter, **facts))


def assert_same(model, expected) -> None:
    np.testing.assert_allclose(model(PROMPT), expected(PROMPT), rtol=1e-4, atol=1e-4)


def differs(model, other) -> bool:
    return not np.allclose(model(PROMPT), other(PROMPT), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3_text", "mamba2"])
def test_adapter_gives_the_logits_of_mlx_lm(tmp_path, name, quantized, kind):
    base = architectures.write_folder(name, tmp_path / "base", quantized=quantized)
    adapter = write_adapter(base, tmp_path / "adapter", kind=kind)
    adapted = load(base, adapter, architecture=name)
    assert_same(adapted, load_as_mlx_lm(base, adapter))
    assert differs(adapted, load(base, architecture=name))


@pytest.mark.parametrize("quantized", [False, True])
def test_adapter_of_experts_gives_the_logits_of_mlx_lm(tmp_path, quantized):
    base = architectures.write_folder("qwen3_moe", tmp_path / "base", quantized=quantized)
    adapter = write_adapter(base, tmp_path / "adapter")
    assert any("switch_mlp" in name for name in arrays_of(adapter))
    assert_same(load(base, adapter), load_as_mlx_lm(base, adapter))


def test_adapter_that_replaces_weights_gives_the_logits_of_mlx_lm(folder, tmp_path):
    adapter = write_adapter(folder, tmp_path, kind="full")
    assert_same(load(folder, adapter), load_as_mlx_lm(folder, adapter))
    assert differs(load(folder, adapter), load(folder))


def test_adapter_that_replaces_weights_is_refused_on_quantized_ones(tmp_path):
    base = architectures.write_folder("llama", tmp_path / "base")
    adapter = write_adapter(base, tmp_path / "adapter", kind="full")
    with pytest.raises(ModelError, match=r"layers\.1\.\S+ of the base is quantized; a full"):
        load(base, adapter, quantize=4)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_adapter_in_half_precision_is_as_exact_as_its_file(folder, tmp_path, dtype):
    adapter = write_adapter(folder, tmp_path, dtype=dtype)
    assert_same(load(folder, adapter), load_as_mlx_lm(folder, adapter))


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_adapter_of_a_tied_embedding_also_projects_one_position(folder, tmp_path, kind):
    adapter = write_adapter(folder, tmp_path, kind=kind, keys=["model.embed_tokens"])
    expected = load_as_mlx_lm(folder, adapter)
    adapted = load(folder, adapter)
    assert_same(adapted, expected)
    assert projection.prepare(adapted)
    with projection.only_at([3]):
        logits = adapted(PROMPT)
    np.testing.assert_allclose(logits[:, 0], expected(PROMPT)[:, 3], rtol=1e-4, atol=1e-4)


def test_adapter_on_weights_that_are_quantized_on_load(tmp_path):
    """The same as on a folder that was quantized before."""
    base = architectures.write_folder("llama", tmp_path / "base", hidden_size=96)
    quantized = architectures.write_folder(
        "llama", tmp_path / "quantized", quantized=True, hidden_size=96
    )
    keys = ["self_attn.q_proj", "mlp.gate_proj"]  # 96 wide: in groups of 32 on both sides
    adapter = write_adapter(base, tmp_path / "adapter", keys=keys)
    adapted = load(base, adapter, quantize=4)
    assert differs(adapted, load(base, adapter)) and differs(adapted, load(base, quantize=4))
    weights = {path: array for path, array in tree_flatten(adapted.parameters())}
    expected = dict(tree_flatten(load(quantized, adapter).parameters()))
    for path in [path for path in weights if "q_proj" in path or "gate_proj" in path]:
        np.testing.assert_array_equal(weights[path], expected[path])


@pytest.mark.parametrize("case", ["llama", "llama-factors", "qwen3moe"])
def test_adapter_on_a_gguf_file(tmp_path, monkeypatch, case):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    source, config = make_model(CASES[case], tmp_path / "source")
    file = write_model(tmp_path / "m.gguf", CASES[case], source, config, tmp_path / "source")
    adapter = write_adapter(tmp_path / "source", tmp_path / "adapter")
    expected = load_adapters(source, str(adapter))
    expected.eval()
    bases = BaseWeights()  # the file is read once, and its frequencies of positions as well
    served = serve_tiny(model_folder(file), weights=file)
    first = load_generation_model(served, bases=bases)
    adapted = load_generation_model(replace(served, adapter=adapter), bases=bases)
    assert_same(adapted, expected)
    assert differs(adapted, first)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_adapter_on_weights_that_stay_quantized_on_a_gpu(tmp_path, monkeypatch, kind):
    base = architectures.write_folder("llama", tmp_path / "base", quantized=True)
    adapter = write_adapter(base, tmp_path / "adapter", kind=kind, keys=PROJECTIONS)
    expected = load(base, adapter)
    monkeypatch.setattr(cpu, "is_used", lambda: False)
    adapted = load(base, adapter)
    arrays = dict(tree_flatten(adapted.parameters()))
    assert arrays["model.layers.0.self_attn.q_proj.linear.weight"].dtype == mx.uint32
    assert_same(adapted, expected)


def test_adapter_leaves_out_layers_that_its_file_does_not_have(folder, tmp_path):
    """Older versions of mlx-lm adapted fewer layers where the configuration names none."""
    adapter = write_adapter(folder, tmp_path, keys=PROJECTIONS[:1])
    config = json.loads((adapter / "adapter_config.json").read_text())
    del config["lora_parameters"]["keys"]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    adapted = load(folder, adapter)
    assert_same(adapted, load_as_mlx_lm(folder, adapter))
    names = {name for name, _ in tree_flatten(adapted.parameters())}
    assert sum(name.endswith("lora_a") for name in names) == 2  # one for each layer


# --- adapters that do not fit ---------------------------------------------------------


def arrays_of(adapter: Path) -> dict[str, mx.array]:
    return mx.load(str(adapter / "adapters.safetensors"))


def rewrite(adapter: Path, arrays: dict[str, mx.array]) -> None:
    mx.eval(list(arrays.values()))  # they come from the file that is replaced
    mx.save_safetensors(str(adapter / "adapters.safetensors"), arrays)


def error_of(folder: Path, adapter: Path, **facts) -> str:
    with pytest.raises(ModelError) as caught:
        load(folder, adapter, **facts)
    assert str(caught.value).startswith("adapter: ") and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"hidden": 32},
            r"0.self_attn.k_proj.lora_a has the shape \(64, 4\), not \(32, 4\): it was made",
        ),
        ({"layers": 1}, "layers.1.* the base has no place for it"),
    ],
)
def test_adapter_of_another_size_is_refused(folder, tmp_path, changes, expected):
    adapter = write_adapter(folder, tmp_path / "adapter", keys=PROJECTIONS)
    other = tiny.make_chat_model(tmp_path / "other", **({"hidden": 64} | changes))
    reason = error_of(other, adapter)
    assert re.search(expected, reason), reason


def test_adapter_of_another_architecture_is_refused(folder, tmp_path):
    mamba = architectures.write_folder("mamba2", tmp_path / "mamba")
    adapter = write_adapter(mamba, tmp_path / "adapter", keys=["mixer.in_proj"])
    assert "the base has none of the layers" in error_of(folder, adapter)
    everywhere = write_adapter(mamba, tmp_path / "everywhere")
    assert "backbone.layers.2.mixer" in error_of(folder, everywhere)


def test_adapter_with_a_part_of_a_layer_is_refused(folder, tmp_path):
    adapter = write_adapter(folder, tmp_path)
    name = "model.layers.0.mlp.up_proj.lora_b"
    rewrite(adapter, {key: array for key, array in arrays_of(adapter).items() if key != name})
    assert error_of(folder, adapter).endswith(f"lacks {name}")


def test_adapter_of_other_numbers_is_refused(folder, tmp_path):
    adapter = write_adapter(folder, tmp_path)
    arrays = arrays_of(adapter)
    name = next(iter(arrays))
    rewrite(adapter, arrays | {name: arrays[name].astype(mx.int32)})
    assert f"{name} has the type mlx.core.int32" in error_of(folder, adapter)
    rewrite(adapter, {})
    assert "has no tensors" in error_of(folder, adapter)


def test_adapter_that_mlx_lm_cannot_apply_is_refused(tmp_path):
    base = architectures.write_folder("qwen3_moe", tmp_path / "base")
    adapter = write_adapter(base, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["fine_tune_type"] = "dora"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert "SwitchLinear doesn't support DoRA" in error_of(base, adapter)


def test_adapter_of_a_quantized_embedding_by_dora_is_refused(tmp_path):
    base = architectures.write_folder("llama", tmp_path / "base")
    adapter = write_adapter(
        base, tmp_path / "adapter", kind="dora", keys=["model.embed_tokens"]
    )
    load(base, adapter)
    reason = error_of(base, adapter, quantize=4)
    assert "DoRA needs a model.embed_tokens that is not quantized" in reason
    shutil.rmtree(adapter)
    assert "there is no adapter_config.json" in error_of(base, adapter)
