"""The tokenizer of a GGUF file, rebuilt from its metadata."""

from typing import Any

from mlxnode.errors import ModelError
from mlxnode.models.gguf.header import Metadata

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


def tokenizer_config_of(metadata: Metadata) -> dict[str, Any]:
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


def tokenizer_of(metadata: Metadata) -> Any:
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
