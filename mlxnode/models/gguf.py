"""GGUF files: configuration and tokenizer, rebuilt from the metadata in the file.

This module writes a folder that looks like any other Hugging Face model. The engine reads the
weights from the GGUF file itself. Format: GGUF v3,
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from mlxnode import __version__
from mlxnode.errors import ModelError
from mlxnode.models.cache_folder import build_once, cache_folder

ARCHITECTURES = ("llama",)
TENSORS = "tensors.json"  # in the folder: [name, type, shape, end in the file] of each tensor
_FORMAT = 2  # of the folder; a folder of another format is made anew

# The pattern that splits text into words before byte-level BPE, by tokenizer.ggml.pre.
# None: the pattern of GPT-2.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {
    "gpt-2": None,
    "llama-bpe": _LLAMA3,
    "qwen2": _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"),
    "smollm": None,
}
_SINGLE_DIGITS = ("smollm",)
_IGNORE_MERGES = ("llama-bpe",)  # a word that is a token is not split by merges
_ADD_BOS = ("llama-bpe",)  # unless the metadata sets add_bos_token

# tokenizer.ggml.token_type
_CONTROL, _USER_DEFINED = 3, 4
# The tokens that end a document, a turn, a message.
_END_TOKENS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


Tensor = tuple[str, str, list[int], int]


def model_folder(file: Path) -> Path:
    """A folder with config.json and the tokenizer's files of the GGUF ``file``.

    Each version of mlxnode makes the folder once and keeps it in the cache, under a key of
    the file's path, size and modification time.

    Raises:
        ModelError: the file is not a GGUF file, or its contents are not supported.
    """
    state = file.stat()
    identity = (
        f"{__version__}\0{_FORMAT}\0{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    )
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return build_once(
        cache_folder() / "gguf" / f"{file.stem}-{key}", lambda folder: _write(file, folder)
    )


def _write(file: Path, folder: Path) -> None:
    metadata, tensors = _read(file)
    try:
        parts = {
            "config.json": _config(metadata, {name for name, *_ in tensors}),
            TENSORS: tensors,
            "tokenizer_config.json": _tokenizer_config(metadata),
            "generation_config.json": {
                "eos_token_id": sorted(
                    {metadata[key] for key in _END_TOKENS if key in metadata}
                )
            },
        }
        tokenizer = _tokenizer(metadata)
    except KeyError as error:
        raise ModelError(f"{file}: the metadata lacks {error}") from error
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error
    for name, content in parts.items():
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))


def _read(file: Path) -> tuple[dict[str, Any], list[Tensor]]:
    """The metadata, and name, type, shape and end of each tensor."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ModelError(f"{file}: not a readable GGUF file: {error}") from error
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    tensors = [
        (
            tensor.name,
            tensor.tensor_type.name,
            [int(size) for size in reversed(tensor.shape)],
            int(tensor.data_offset + tensor.n_bytes),
        )
        for tensor in reader.tensors
    ]
    return metadata, tensors


def read_tensors(folder: Path) -> list[Tensor]:
    """Name, type, shape and end of each tensor of the file that ``folder`` was made of."""
    return [
        (name, kind, shape, end)
        for name, kind, shape, end in json.loads((folder / TENSORS).read_text())
    ]


def _config(metadata: dict[str, Any], tensors: set[str]) -> dict[str, Any]:
    """The config.json that mlx-lm reads."""
    architecture = metadata["general.architecture"]
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"architecture {architecture!r} is not supported in GGUF form, only "
            f"{', '.join(ARCHITECTURES)}; use the model's MLX or safetensors folder"
        )

    def get(name: str, *default: Any) -> Any:
        key = f"{architecture}.{name}"
        return metadata.get(key, *default) if default else metadata[key]

    heads = get("attention.head_count")
    head_dim = get("attention.key_length", get("embedding_length") // heads)
    scaling = get("rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in tensors or get("rope.scale_linear", 1) != 1:
        raise ModelError(
            f"rope scaling ({scaling}) is not supported in GGUF form; use the model's MLX or "
            "safetensors folder"
        )
    if (rotated := get("rope.dimension_count", head_dim)) != head_dim:
        raise ModelError(f"rope over {rotated} of {head_dim} dimensions is not supported")
    return {
        "model_type": architecture,
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_theta": get("rope.freq_base", 10000.0),
        "max_position_embeddings": get("context_length"),
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": "output.weight" not in tensors,
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
    }


def _tokenizer_config(metadata: dict[str, Any]) -> dict[str, Any]:
    tokens = metadata["tokenizer.ggml.tokens"]
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "eos_token": tokens[metadata["tokenizer.ggml.eos_token_id"]],
        "model_max_length": metadata[f"{metadata['general.architecture']}.context_length"],
    }
    for key, name in (("bos", "bos"), ("unknown", "unk"), ("padding", "pad")):
        if (token := metadata.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            config[f"{name}_token"] = tokens[token]
    if template := metadata.get("tokenizer.chat_template"):
        config["chat_template"] = template
    return config


def _tokenizer(metadata: dict[str, Any]) -> Any:
    """The ``tokenizers.Tokenizer`` of a byte-level BPE vocabulary."""
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        processors,
    )

    kind, pre = metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or pre not in _PATTERNS:
        raise ModelError(
            f"tokenizer {kind!r} with pre-tokenizer {pre!r} is not supported, only 'gpt2' with "
            f"{', '.join(_PATTERNS)}; use the model's MLX or safetensors folder"
        )
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get("tokenizer.ggml.merges", [])]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre in _IGNORE_MERGES)
    )
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    for token, type_ in zip(tokens, types, strict=True):
        if type_ in (_CONTROL, _USER_DEFINED):
            added = AddedToken(token, special=type_ == _CONTROL, normalized=False)
            tokenizer.add_tokens([added])
    if metadata.get("tokenizer.ggml.add_bos_token", pre in _ADD_BOS):
        bos = metadata["tokenizer.ggml.bos_token_id"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A", special_tokens=[(tokens[bos], bos)]
        )
    return tokenizer


def _pre_tokenizer(pre: str) -> Any:
    """The ``PreTokenizer`` of ``tokenizer.ggml.pre``, one of _PATTERNS."""
    from tokenizers import Regex, pre_tokenizers

    pattern = _PATTERNS[pre]
    steps: list[pre_tokenizers.PreTokenizer] = []
    if pre in _SINGLE_DIGITS:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if pattern is not None:
        steps.append(pre_tokenizers.Split(Regex(pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None))
    return pre_tokenizers.Sequence(steps)
