"""The settings of an embedding model: pooling, vector sizes, maximum length, prompt.

The files and their meaning are those of sentence-transformers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxnode.errors import ModelError
from mlxnode.models.plain_files import read_object
from mlxnode.models.sentence.json_file import positive
from mlxnode.models.sentence.modules import (
    DenseConfig,
    Modules,
    PoolingConfig,
    PoolingMode,
    read_modules,
)

ENCODER_TYPES = frozenset(
    {"bert", "camembert", "electra", "modernbert", "roberta", "xlm-roberta"}
)


@dataclass(frozen=True)
class SentenceConfig:
    """The steps from an input to its vector, as the model's files define them.

    ``max_length`` is in tokens and includes special tokens. Token ids are below
    ``vocabulary_size``. ``dimensions`` is the full vector size. ``matryoshka`` holds the sizes
    that the vector can be truncated to, if the model declares any. ``default_prompt`` is put
    before each input, and the other prompts before the texts of a search; "" means no prompt.
    """

    pooling: PoolingMode
    normalize: bool
    max_length: int
    vocabulary_size: int
    dimensions: int
    matryoshka: tuple[int, ...]
    default_prompt: str
    query_prompt: str
    document_prompt: str
    lowercase: bool
    dense: tuple[DenseConfig, ...]


def read_sentence_config(folder: Path) -> SentenceConfig:
    """The settings of the model in ``folder``, which holds at least config.json.

    A folder without ``modules.json`` gets mean pooling for an encoder, the last token for any
    other architecture (a decoder), and normalized vectors.

    Raises:
        ModelError: a file is missing or broken, or a setting is not supported.
    """
    file = folder / "config.json"
    model = read_object(file)
    size = positive(model, "hidden_size", file)
    if (folder / "modules.json").exists():
        modules = read_modules(folder)
    else:
        mode = "mean" if model.get("model_type") in ENCODER_TYPES else "last"
        modules = Modules(PoolingConfig(mode), dense=(), normalize=True)
    for layer in modules.dense:
        if layer.in_features != size:
            raise ModelError(f"{layer.weights}: takes {layer.in_features} features, not {size}")
        size = layer.out_features

    transformer = _read_transformer_config(folder)
    default_prompt, query_prompt, document_prompt = _read_prompts(folder)
    if default_prompt and not modules.pooling.include_prompt:
        raise ModelError(f"{folder}: pooling without the prompt's tokens is not supported")
    if not modules.pooling.include_prompt:
        query_prompt = document_prompt = ""  # as the search of a model without prompts
    return SentenceConfig(
        pooling=modules.pooling.mode,
        normalize=modules.normalize,
        max_length=max_length_of(folder, model, transformer),
        vocabulary_size=positive(model, "vocab_size", file),
        dimensions=size,
        matryoshka=_matryoshka(model, size, file),
        default_prompt=default_prompt,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        lowercase=bool(transformer.get("do_lower_case", False)),
        dense=modules.dense,
    )


def _read_transformer_config(folder: Path) -> dict[str, Any]:
    """The settings of the Transformer module; older models name the file by architecture."""
    names = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    files = (folder / f"sentence_{name}_config.json" for name in names)
    return next((read_object(file) for file in files if file.exists()), {})


def _read_prompts(folder: Path) -> tuple[str, str, str]:
    """The prompts of any input, of the query of a search, and of its documents.

    As ``encode_query`` and ``encode_document`` of sentence-transformers choose them by name.
    """
    file = folder / "config_sentence_transformers.json"
    settings = read_object(file) if file.exists() else {}
    prompts, name = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if name is not None and name not in prompts:
        raise ModelError(f"{file}: default_prompt_name {name!r} is none of the prompts")
    default = prompts.get(name) or ""
    query = prompts.get("query", default)
    names = ("document", "passage", "corpus")
    document = next((prompts[name] for name in names if name in prompts), default)
    return default, query or "", document or ""


def max_length_of(folder: Path, model: dict[str, Any], transformer: dict[str, Any]) -> int:
    """The declared maximum, limited by the number of positions of the model.

    Raises:
        ModelError: the files declare none.
    """
    limits = []
    if (positions := model.get("max_position_embeddings")) is not None:
        if model.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
            # Their positions start after the id of the padding token.
            positions -= model.get("pad_token_id", 1) + 1
        limits.append(positions)
    declared = transformer.get("max_seq_length")
    tokenizer = folder / "tokenizer_config.json"
    if declared is None and tokenizer.exists():
        declared = read_object(tokenizer).get("model_max_length")
    if declared is not None:
        limits.append(int(declared))
    if not limits or min(limits) < 1:
        raise ModelError(f"{folder}: the files tell no maximum length")
    return min(limits)


def _matryoshka(model: dict[str, Any], size: int, file: Path) -> tuple[int, ...]:
    """The sizes that config.json declares; ``is_matryoshka`` alone declares all sizes."""
    sizes = model.get("matryoshka_dimensions")
    if not sizes:
        return tuple(range(1, size + 1)) if model.get("is_matryoshka") is True else ()
    if not (isinstance(sizes, list) and all(isinstance(n, int) and n > 0 for n in sizes)):
        raise ModelError(f"{file}: matryoshka_dimensions must be sizes, got {sizes!r}")
    return tuple(sorted(sizes))
