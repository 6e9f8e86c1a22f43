"""GGUF metadata: tokenizer and configuration rebuilt, or refused by name."""

import json
import re
from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers import Tokenizer

from mlxnode.errors import ModelError
from mlxnode.models.gguf.config import config_of
from mlxnode.models.gguf.folder import model_folder
from mlxnode.models.gguf.header import read_header

# Strings and the ids that llama.cpp gives them with the demo model (make_tokens.py).
EXPECTED = json.loads(
    (Path(__file__).parent.parent / "fixtures/gguf/smollm2_tokens.json").read_text()
)


@pytest.fixture(scope="module")
def folder(demo_chat) -> Path:
    return model_folder(demo_chat)


@pytest.fixture(scope="module")
def tokenizer(folder) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_gguf_tokenizer_gives_the_ids_of_llama_cpp(tokenizer):
    assert len(EXPECTED) >= 60
    for text, ids in EXPECTED.items():
        assert tokenizer.encode(text).ids == ids, text


def test_gguf_tokenizer_round_trips(tokenizer):
    for text, ids in EXPECTED.items():
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_gguf_files_are_those_of_a_model_folder(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["max_position_embeddings"] == 8192
    assert config["tie_word_embeddings"] is True
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer["eos_token"] == "<|im_end|>"
    assert "<|im_start|>" in tokenizer["chat_template"]


def test_gguf_folder_is_made_once(folder, demo_chat, monkeypatch):
    monkeypatch.setattr("mlxnode.models.gguf.folder.write_folder", None)
    assert model_folder(demo_chat) == folder


def write(
    file: Path, architecture: str = "llama", pre: str = "gpt-2", **extra: str | int
) -> Path:
    """A GGUF file with the metadata of a llama, and one tensor."""
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(extra.pop("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(["<s>", "a", "b", "ab", "<call>", "<end>"])
    writer.add_token_types([3, 1, 1, 1, 4, 3])
    writer.add_token_merges(["a b"])
    if extra.pop("eos", True):
        writer.add_eos_token_id(0)
        writer.add_eot_token_id(5)
    for key, value in extra.items():
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        add(key.replace("__", "."), value)
    writer.add_tensor("token_embd.weight", np.zeros((6, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """A function from the contents of a file to the error it meets."""
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))

    def refused(file: Path) -> str:
        with pytest.raises(ModelError) as caught:
            model_folder(file)
        assert str(caught.value).startswith(str(file))
        return str(caught.value)

    return refused


def test_gguf_small_file_is_accepted(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXNODE_CACHE", str(tmp_path / "cache"))
    folder = model_folder(write(tmp_path / "m.gguf"))
    config = json.loads((folder / "config.json").read_text())
    assert (config["head_dim"], config["num_key_value_heads"]) == (8, 4)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("abba<s>").ids == [3, 2, 1, 0]
    # Control tokens are no text, user-defined ones are.
    assert tokenizer.decode([1, 4, 5]) == "a<call>"
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [0, 5]


def test_gguf_refuses_by_name_what_it_does_not_support(tmp_path, refused):
    file = tmp_path / "m.gguf"
    message = refused(write(file, "mamba"))
    assert "architecture 'mamba' is not supported in GGUF form, only llama" in message
    assert "mlx_lm.convert --hf-path" in message
    assert "pre-tokenizer 'kimi-k2'" in refused(write(file, pre="kimi-k2"))
    assert "tokenizer 'bert'" in refused(write(file, tokenizer="bert"))
    assert "rope scaling (ntk)" in refused(
        write(file, llama__rope__scaling__type="ntk", llama__rope__scaling__factor=2)
    )
    assert "with 8 experts" in refused(write(file, llama__expert_count=8))
    assert "part of a model in 3 files" in refused(write(file, split__count=3))
    assert "rope over 4 of 8" in refused(write(file, llama__rope__dimension_count=4))


def test_gguf_names_the_value_that_cannot_be(tmp_path, refused):
    file = tmp_path / "m.gguf"
    for key, value, reason in (
        ("llama.block_count", 1 << 25, "must be an integer up to 16777216, got 33554432"),
        ("llama.block_count", 1000, "llama.block_count is 1000, but there are 1 tensors"),
        ("llama.attention.head_count", 0, "must be at least 1, got 0"),
        ("llama.context_length", "64", "must be an integer up to 16777216, got '64'"),
        ("llama.rope.freq_base", "x", "must be a number, got 'x'"),
        ("llama.attention.value_length", 7, "values of 7 beside keys of 8"),
        ("llama.attention.head_count_kv", 3, "4 heads are no multiple of 3"),
    ):
        write(file)
        metadata, tensors = read_header(file)
        with pytest.raises(ModelError, match=re.escape(reason)):
            config_of(metadata | {key: value}, tensors)


def test_gguf_with_metadata_of_other_types_is_refused(tmp_path):
    """Whatever type a value has, there is a reason."""
    metadata, tensors = read_header(write(tmp_path / "m.gguf"))
    for key in metadata:
        if not key.startswith(("llama.", "general.architecture")):
            continue
        for value in (True, -1, float("nan"), "text", [1, 2], [], 1 << 63):
            try:
                config_of({**metadata, key: value}, tensors)
            except ModelError:
                continue
            assert (key, value) == ("llama.attention.layer_norm_rms_epsilon", 1 << 63)


def test_gguf_names_the_metadata_that_is_missing(tmp_path, refused):
    message = refused(write(tmp_path / "m.gguf", eos=False))
    assert "the metadata lacks 'tokenizer.ggml.eos_token_id'" in message


def test_gguf_refuses_what_is_no_gguf_file(tmp_path, refused):
    whole = write(tmp_path / "m.gguf").read_bytes()
    broken = tmp_path / "broken.gguf"
    for content in (b"", b"not a model", whole[:40], whole[: len(whole) // 4]):
        broken.write_bytes(content)
        assert "not a readable GGUF file" in refused(broken)
