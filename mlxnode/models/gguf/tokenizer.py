"""The tokenizer of a GGUF file, rebuilt from its metadata."""

from typing import Any

from mlxnode.errors import ModelError
from mlxnode.models.gguf.header import Metadata
from mlxnode.models.gguf.pre_tokenizers import PreTokenizer, pre_tokenizer_of
from mlxnode.models.gguf.sentence_piece import tokenizer_of_pieces
from mlxnode.models.gguf.vocabulary import (
    CONTROL,
    MERGES,
    MODEL,
    PRE,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
    flag,
    special_id,
    vocabulary_of,
)

# tokenizer.ggml.model: byte-level BPE, the BPE of SentencePiece, the same with merges
_BYTE_LEVEL, _PIECES, _MERGED_PIECES = "gpt2", "llama", "gemma4"
_MODELS = (_BYTE_LEVEL, _PIECES, _MERGED_PIECES)
_TEMPLATE = "tokenizer.chat_template"


def tokenizer_config_of(metadata: Metadata) -> dict[str, Any]:
    """The tokenizer_config.json that transformers reads.

    Raises:
        KeyError: the metadata lacks a key.
        ModelError: a value is damaged.
    """
    tokens = vocabulary_of(metadata).tokens
    if special_id(metadata, "eos") is None:
        raise KeyError("tokenizer.ggml.eos_token_id")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata[f"{metadata['general.architecture']}.context_length"],
    }
    for name, short in (("bos",) * 2, ("eos",) * 2, ("unknown", "unk"), ("padding", "pad")):
        if (id_ := special_id(metadata, name)) is not None:
            config[f"{short}_token"] = tokens[id_]
    if templates := _templates_of(metadata):
        config["chat_template"] = templates
    return config


def tokenizer_of(metadata: Metadata) -> Any:
    """The ``tokenizers.Tokenizer``: byte-level BPE, or the BPE of SentencePiece.

    Raises:
        KeyError: the metadata lacks a key.
        ModelError: the kind is not supported, or a value is damaged.
    """
    kind = metadata[MODEL]
    if kind not in _MODELS:
        raise ModelError(
            f"tokenizer {kind!r} is not supported in GGUF form, only {', '.join(_MODELS)}; use "
            "the model's MLX or safetensors folder"
        )
    vocabulary = vocabulary_of(metadata)
    if kind != _PIECES and MERGES not in metadata and not vocabulary.is_of_bytes:
        raise KeyError(MERGES)
    if kind == _BYTE_LEVEL:
        pre = pre_tokenizer_of(metadata.get(PRE))
        tokenizer = _byte_level(vocabulary, pre)
        has_bos = pre.has_bos
    else:
        tokenizer = tokenizer_of_pieces(metadata, vocabulary, by_score=kind == _PIECES)
        has_bos = kind == _PIECES
    # All at once: each call makes the search for their texts anew.
    tokenizer.add_tokens(_added_tokens(metadata, vocabulary))
    _add_ends(tokenizer, metadata, vocabulary, has_bos)
    return tokenizer


def _byte_level(vocabulary: Vocabulary, pre: PreTokenizer) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary.ids(),
            merges=vocabulary.merges,
            ignore_merges=pre.has_whole_words,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in pre.patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    if pre.is_composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _added_tokens(metadata: Metadata, vocabulary: Vocabulary) -> list[Any]:
    """The tokens that a text is searched for before all else; the special ones are no text."""
    from tokenizers import AddedToken

    # The special tokens of Phi-3 take the spaces behind them; the file does not say so.
    is_phi3 = metadata["general.architecture"] == "phi3" and metadata[MODEL] == _PIECES
    kept = {"<unk>", "<s>", "<|endoftext|>"}
    return [
        AddedToken(
            token,
            special=type_ != USER_DEFINED,
            normalized=False,
            rstrip=is_phi3 and token not in kept,
        )
        for token, type_ in zip(vocabulary.tokens, vocabulary.types, strict=True)
        if type_ in (UNKNOWN, CONTROL, USER_DEFINED)
    ]


def _add_ends(
    tokenizer: Any, metadata: Metadata, vocabulary: Vocabulary, has_bos: bool
) -> None:
    """Let the tokenizer put the special tokens around a text that are asked for."""
    from tokenizers import processors

    ends: dict[str, int] = {}
    for name, default in (("bos", has_bos), ("eos", False)):
        if not flag(metadata, f"add_{name}_token", default):
            continue
        if (id_ := special_id(metadata, name)) is None:
            raise KeyError(f"tokenizer.ggml.{name}_token_id")
        ends[name] = id_
    if ends:
        template = ["$A"]
        if "bos" in ends:
            template.insert(0, vocabulary.tokens[ends["bos"]])
        if "eos" in ends:
            template.append(vocabulary.tokens[ends["eos"]])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template,
            special_tokens=[(vocabulary.tokens[id_], id_) for id_ in ends.values()],
        )


def _templates_of(metadata: Metadata) -> str | list[dict[str, str]] | None:
    """The chat template; or a list of the named ones, as tokenizer_config.json has them."""
    templates = {
        key.removeprefix(_TEMPLATE).removeprefix(".") or "default": template
        for key, template in metadata.items()
        if (key == _TEMPLATE or key.startswith(f"{_TEMPLATE}.")) and template
    }
    for name, template in templates.items():
        if not isinstance(template, str):
            raise ModelError(f"the chat template {name!r} is no text")
    if templates.keys() == {"default"}:
        return templates["default"]
    return [{"name": name, "template": text} for name, text in templates.items()] or None
