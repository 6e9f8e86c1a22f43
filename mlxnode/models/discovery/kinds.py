"""What a model on the disk is for, from its files alone."""

import re
from pathlib import Path
from typing import Any

from mlxnode.config.tables import ModelType
from mlxnode.errors import ModelError
from mlxnode.models.describe import has_chat_template
from mlxnode.models.files import ModelFiles
from mlxnode.models.gguf.architectures import ARCHITECTURES
from mlxnode.models.gguf.header import first_value
from mlxnode.models.plain_files import check_file, read_json, read_object
from mlxnode.models.rerank.config import DECODER
from mlxnode.models.sentence.config import ENCODER_TYPES

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model")
_SENTENCE_PIECE = "sentencepiece.bpe.model"
# The names are the only difference between some decoders that embed and those that chat.
_EMBEDS = re.compile(r"(^|[^a-z])(embed(ding|dings|der)?|e5|gte|bge)([^a-z]|$)", re.IGNORECASE)
_RERANKS = re.compile(r"rerank", re.IGNORECASE)
_TOKEN_HEADS = ("ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
_POOLING = b".pooling_type"  # what llama.cpp's converter writes for models that embed
_GGUF_START = 1 << 16  # bytes; the keys of the architecture come before the vocabulary


def kind_of_folder(folder: Path, name: str) -> ModelType:
    """The type of the model in ``folder``, which has a config.json.

    ``name`` is that of the repository or of the folder. The files of the weights and the sizes
    are not looked at.

    Raises:
        ModelError: the files are broken, or no type fits.
    """
    config = read_object(folder / "config.json")
    _check_code(config)
    heads = config.get("architectures")
    head = str(heads[0]) if isinstance(heads, list) and heads else ""
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelError(f"{folder / 'config.json'} names no model_type")
    if _is_cross_encoder(folder) or head.endswith("ForSequenceClassification"):
        if kind not in ENCODER_TYPES and kind != DECODER:
            raise ModelError(f"a classifier of type {kind!r:.60} is not supported")
        return "rerank"
    if head.endswith(_TOKEN_HEADS):
        raise ModelError(f"{head:.60} answers with labels of tokens, which no endpoint has")
    if kind == DECODER and _RERANKS.search(name):
        return "rerank"
    if kind in ENCODER_TYPES or _embeds(folder, head, name):
        _check_embedder(folder, config)
        return "embedding"
    if not any(folder.glob("model*.safetensors")):
        raise ModelError(f"there are no model*.safetensors files in {folder}")
    return "chat" if has_chat_template(folder) else "completion"


def check_gguf(file: Path) -> None:
    """Raises ModelError if ``file`` is no model that generates text.

    Only its first bytes are looked at, so that no vocabulary is read in vain.
    """
    check_file(file)
    name = first_value(file, "general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ModelError(f"architecture {name!r:.60} is not supported in GGUF form")
    with file.open("rb") as stream:
        is_pooling = _POOLING in stream.read(_GGUF_START)
    if is_pooling:
        raise ModelError("embedding models and rerankers in GGUF form are not supported")


def kind_of_gguf(files: ModelFiles) -> ModelType:
    """The type of a GGUF file, whose folder has been made."""
    return "chat" if has_chat_template(files.folder) else "completion"


def _check_code(config: dict[str, Any]) -> None:
    if config.get("model_file") is not None:
        raise ModelError("the model brings code of its own (model_file), which is never run")


def _is_cross_encoder(folder: Path) -> bool:
    file = folder / "config_sentence_transformers.json"
    return file.exists() and read_object(file).get("model_type") == "CrossEncoder"


def _embeds(folder: Path, head: str, name: str) -> bool:
    """True if a decoder embeds: by its modules, by its missing head, or by its name."""
    if (folder / "modules.json").exists():
        modules = read_json(folder / "modules.json")
        if isinstance(modules, list):
            return any("Pooling" in str(module) for module in modules)
    is_headless = head.endswith("Model") and not head.endswith("LMHeadModel")
    return is_headless or _EMBEDS.search(name) is not None


def _check_embedder(folder: Path, config: dict[str, Any]) -> None:
    sees_all = config.get("use_bidirectional_attention") or config.get("is_causal") is False
    if sees_all and config.get("model_type") not in ENCODER_TYPES:
        raise ModelError("a decoder with bidirectional attention is not supported")
    if not any((folder / name).exists() for name in (*_VOCABULARIES, _SENTENCE_PIECE)):
        raise ModelError(f"there is no tokenizer in {folder}")
