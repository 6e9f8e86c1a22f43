"""Loading folders and GGUF files into mlx-lm's models."""

import json
import math
import shutil
import sys
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model
from safetensors.numpy import load_file
from support import tiny
from support.engine_process import serve_tiny

from mlxnode.config.demo import demo_tables
from mlxnode.config.tables import NodeConfig
from mlxnode.engine.loader import load_generation_model
from mlxnode.errors import ModelError
from mlxnode.models.gguf.folder import model_folder
from mlxnode.models.resolve import resolve_models
from mlxnode.server.prompt.conversation import Conversation
from mlxnode.server.prompt.tokenizers import TextTokenizer

HEADS, KV_HEADS = 4, 2
PROMPT = mx.array([[5, 77, 200, 13, 42]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    # Wide enough for blocks of 32 values, GGUF's and MLX's smallest groups.
    return tiny.make_chat_model(
        tmp_path_factory.mktemp("tiny"), hidden=64, heads=HEADS, kv_heads=KV_HEADS
    )


@pytest.fixture(scope="module")
def demo(demo_chat):
    served = resolve_models(NodeConfig.model_validate(demo_tables()), print)[0]
    return load_generation_model(served), TextTokenizer(served.folder)


def dtypes(model: nn.Module) -> set[mx.Dtype]:
    return {array.dtype for _, array in tree_flatten(model.parameters())}


def on_cpu() -> bool:
    return mx.default_device() == mx.Device(mx.cpu)


# --- folders ------------------------------------------------------------------------


def test_loader_folder_gives_the_logits_of_mlx_lm(folder):
    model = load_generation_model(serve_tiny(folder))
    expected = load_model(folder)[0](PROMPT)
    np.testing.assert_allclose(model(PROMPT), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_loader_widens_half_precision_on_the_cpu(folder, tmp_path, dtype):
    model = load_model(folder)[0]
    model.set_dtype(dtype)
    half = save(model, folder, tmp_path)
    assert dtypes(load_generation_model(serve_tiny(half))) == {
        mx.float32 if on_cpu() else dtype
    }


def test_loader_undoes_quantization_on_the_cpu(folder, tmp_path):
    model = load_model(folder)[0]
    nn.quantize(model, group_size=32, bits=4)
    quantized = save(model, folder, tmp_path, quantization={"group_size": 32, "bits": 4})
    loaded = load_generation_model(serve_tiny(quantized))
    assert not on_cpu() or dtypes(loaded) == {mx.float32}
    np.testing.assert_allclose(loaded(PROMPT), model(PROMPT), rtol=1e-3, atol=1e-3)


def save(model: nn.Module, source: Path, target: Path, **config: object) -> Path:
    """The model as a folder; its other files and settings are those of ``source``."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    settings = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(settings | config))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(target / "model.safetensors"), weights, metadata={"format": "mlx"})
    return target


def test_loader_refuses_an_architecture_that_mlx_lm_does_not_know(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "abacus"}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="abacus not supported"):
        load_generation_model(serve_tiny(broken))


def test_loader_refuses_weights_that_do_not_fit(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot load"):
        load_generation_model(serve_tiny(broken))
    (broken / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="cannot load"):
        load_generation_model(serve_tiny(broken))


# --- GGUF ---------------------------------------------------------------------------

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows from halves (i, i + d/2) to pairs (2i, 2i + 1), as llama.cpp's converter does."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(folder: Path, file: Path, kind: gguf.GGMLQuantizationType) -> Path:
    """The tiny llama of ``folder`` as a GGUF file with the byte tokenizer."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types([3] * 3 + [1] * (len(vocabulary) - 3))
    writer.add_eos_token_id(tiny.EOS_ID)
    for name, weight in load_file(folder / "model.safetensors").items():
        path = name.removesuffix(".weight")
        layer = ""
        if path.startswith("model.layers."):
            _, _, number, path = path.split(".", 3)
            layer = f"blk.{number}."
        if path.endswith(("q_proj", "k_proj")):
            weight = interleave(weight, HEADS if path.endswith("q_proj") else KV_HEADS)
        name = f"{layer}{GGUF_NAMES[path]}.weight"
        if weight.ndim == 1:
            writer.add_tensor(name, weight)
        else:
            writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1", "Q4_0"])
def test_loader_gguf_gives_the_logits_of_the_same_weights(folder, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    kind = gguf.GGMLQuantizationType[kind]
    file = write_gguf(folder, tmp_path / "support.tiny.gguf", kind)
    loaded = load_generation_model(serve_tiny(model_folder(file), weights=file))

    # The same rounding on both sides, so that only the arithmetic is left to differ.
    expected = load_model(folder)[0]
    for path, array in tree_flatten(expected.parameters()):
        if array.ndim == 2:
            rounded = gguf.quants.dequantize(gguf.quants.quantize(np.array(array), kind), kind)
            expected.load_weights([(path, mx.array(rounded))], strict=False)
    np.testing.assert_allclose(loaded(PROMPT), expected(PROMPT), rtol=2e-3, atol=2e-3)


# --- the demo model -----------------------------------------------------------------


async def test_loader_demo_model_answers(demo):
    model, tokenizer = demo
    question = {"role": "user", "content": "What is the capital of France?"}
    tokens = (tokenizer.chat_prompt(Conversation([question]))).ids
    length = len(tokens)
    for _ in range(7):
        tokens.append(model(mx.array([tokens]))[0, -1].argmax().item())
    text = "".join(map(tokenizer.detokenizer(tokens[:length]).feed, tokens[length:]))
    assert text == "The capital of France is Paris."


async def test_loader_demo_model_predicts_english(demo):
    model, tokenizer = demo
    text = (
        "The mill stands at the bend of the river, where the water slows before it reaches "
        "the town. In spring, when the snow in the mountains melts, the old wheel turns so "
        "fast that the miller has to lower the gate, and people come from the neighbouring "
        "villages to watch. They bring bread and cheese, sit down on the stone wall, and talk "
        "about the weather, the price of wheat, and the children who have moved away to the "
        "city. When the sun goes down, the miller closes the door and walks home along the "
        "path between the fields. His dog, which is almost as old as he is, follows him "
        "slowly. Nobody knows how many more years the wheel will turn, but for now the flour "
        "is good, the bread is better, and the bell of the church still rings every evening "
        "at six."
    )
    (ids,) = await tokenizer.encode([text])
    logits = model(mx.array([ids[:-1]]))[0]
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    chosen = mx.take_along_axis(logprobs, mx.array(ids[1:])[:, None], axis=-1)
    perplexity = math.exp(-chosen.mean().item())
    assert len(ids) > 150
    assert 15 < perplexity < 22.5  # 20.45 when this was written


def test_loader_names_a_model_that_needs_a_missing_package(tmp_path, monkeypatch):
    """The module of olmo ends the process where ai2-olmo is missing."""
    monkeypatch.setitem(sys.modules, "hf_olmo", None)
    monkeypatch.delitem(sys.modules, "mlx_lm.models.olmo", raising=False)
    folder = tiny.make_chat_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "olmo"}))
    with pytest.raises(ModelError, match="needs a package for olmo"):
        load_generation_model(serve_tiny(folder, architecture="olmo"))
