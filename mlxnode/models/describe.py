"""From the files of a model to the facts that every process needs, without its weights."""

from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from mlxnode.config.tables import ModelConfig
from mlxnode.errors import ConfigError, ModelError
from mlxnode.models.adapter import ADAPTER_FILE, check_adapter
from mlxnode.models.complete import check_complete
from mlxnode.models.files import ModelFiles
from mlxnode.models.plain_files import check_folder, read_object
from mlxnode.models.rerank.config import read_reranker_config
from mlxnode.models.sentence.config import ENCODER_TYPES, read_sentence_config
from mlxnode.models.served import ServedModel
from mlxnode.models.sizes import check_sizes

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
_MAX_CONTEXT = 1 << 30  # more is no number of tokens
_UNBOUNDED_CONTEXT = 131_072  # for recurrent models, which declare no limit
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model")
_TEMPLATE_FILES = ("chat_template.jinja", "additional_chat_templates")


@dataclass(frozen=True)
class _Sizes:
    """The sizes of a model: the longest context, and the vector sizes of an embedding model."""

    max_context: int
    dimensions: int | None = None
    matryoshka: tuple[int, ...] = ()


def describe(id: str, model: ModelConfig, files: ModelFiles) -> ServedModel:
    """The facts of the model, checked against its configuration.

    Raises:
        ModelError: a file is missing or broken, or the model cannot be served as its type.
        ConfigError: a configured value exceeds the limit of the model.
    """
    check_folder(files.folder)
    config = _read_config(files.folder)
    if not files.weight_files:
        raise ModelError(f"there are no *.safetensors files in {files.folder}")
    check_sizes(config, check_complete(files))
    architecture = config["model_type"]
    if architecture not in ENCODER_TYPES and not _is_known_to_mlx_lm(architecture):
        raise ModelError(f"model_type {architecture!r} is none that mlx-lm knows")
    if model.quantize is not None:
        _check_is_quantizable(model.quantize, config, files)
    if (model.adapter is None) != (files.adapter is None):
        raise ModelError(f"adapter: its folder is {files.adapter}, not {model.adapter}")
    if files.adapter is not None:
        check_adapter(files.adapter)
    if model.type == "embedding":
        sizes = _embedding_sizes(model, files.folder)
    elif model.type == "rerank":
        sizes = _Sizes(read_reranker_config(files.folder).max_length)
    else:
        _check_generates_text(model, architecture, files.folder)
        sizes = _Sizes(_context_length(config))
    _check_limit("context_length", model.context_length, sizes.max_context)
    weight_files = files.weight_files
    if files.adapter is not None:
        weight_files.append(files.adapter / ADAPTER_FILE)
    return ServedModel(
        id=id,
        type=model.type,
        folder=files.folder,
        weights=files.weights,
        architecture=architecture,
        context_length=model.context_length or sizes.max_context,
        dimensions=sizes.dimensions,
        default_temperature=model.default_temperature,
        size_bytes=sum(file.stat().st_size for file in weight_files),
        created=int(max(file.stat().st_mtime for file in weight_files)),
        matryoshka=sizes.matryoshka,
        has_configured_context=model.context_length is not None,
        kv_cache_bits=model.kv_cache_bits,
        thinking_budget=model.thinking_budget,
        thinking_budget_message=model.thinking_budget_message,
        allow_control_tokens=model.allow_control_tokens,
        truncate_inputs=model.truncate_inputs,
        allow_bare_token_ids=model.allow_bare_token_ids,
        preload=model.preload or model.pin,
        is_pinned=model.pin,
        idle_unload=model.idle_unload,
        adapter=files.adapter,
        quantize=model.quantize,
        strategy=model.strategy,
    )


def _embedding_sizes(model: ModelConfig, folder: Path) -> _Sizes:
    sentence = read_sentence_config(folder)
    dimensions = model.dimensions or sentence.dimensions
    _check_limit("dimensions", model.dimensions, sentence.dimensions)
    configured = model.matryoshka_dimensions or ()
    _check_limit("matryoshka_dimensions", max(configured, default=None), dimensions)
    declared = configured or sentence.matryoshka
    matryoshka = tuple(size for size in declared if size <= dimensions)
    return _Sizes(sentence.max_length, dimensions, matryoshka)


def _check_generates_text(model: ModelConfig, architecture: str, folder: Path) -> None:
    if architecture in ENCODER_TYPES:
        raise ModelError(
            f"it is a {architecture} encoder and generates no text; "
            'set type = "embedding" or "rerank"'
        )
    if not any((folder / name).exists() for name in _TOKENIZER_FILES):
        raise ModelError(f"there is no tokenizer in {folder}")
    if model.type == "chat" and not has_chat_template(folder):
        raise ModelError('it has no chat template; set type = "completion"')


def _check_is_quantizable(bits: int, config: dict[str, Any], files: ModelFiles) -> None:
    """Raises ModelError unless the weights can be quantized while they are loaded."""
    if files.weights.is_file():
        raise ModelError(
            f"quantize = {bits}: a GGUF file keeps the bits that it has; remove quantize, or "
            "take another file"
        )
    if config["model_type"] in ENCODER_TYPES:
        raise ModelError(
            f"quantize = {bits}: a {config['model_type']} encoder cannot be quantized; "
            "remove quantize"
        )
    if "quantization" in config:
        raise ModelError(
            f"quantize = {bits}: the weights are quantized already (config.json: "
            "quantization); remove quantize"
        )


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.exists():
        raise ModelError(f"there is no config.json in {folder}")
    config = read_object(file)
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{file} names no model_type")
    return config


def has_chat_template(folder: Path) -> bool:
    """True if the files in ``folder`` have a chat template."""
    if any((folder / name).exists() for name in _TEMPLATE_FILES):
        return True
    file = folder / "tokenizer_config.json"
    config = read_object(file) if file.exists() else {}
    return bool(config.get("chat_template") or config.get("chat_template_type"))


@cache
def _is_known_to_mlx_lm(model_type: str) -> bool:
    """True if mlx-lm has a module of this name, or maps the name to another module.

    Read from the files of mlx-lm, because an import of mlx-lm imports mlx.
    """
    spec = PathFinder.find_spec("mlx_lm")
    if spec is None or spec.submodule_search_locations is None:
        return True  # an editable installation; the engine reports an unknown type
    (package,) = map(Path, spec.submodule_search_locations)
    if (package / "models" / f"{model_type}.py").exists():
        return True
    return f'"{model_type}"' in (package / "utils.py").read_text(encoding="utf-8")


def _context_length(config: dict[str, Any]) -> int:
    for table in (config, config.get("text_config")):
        if not isinstance(table, dict):
            continue
        for key in _CONTEXT_KEYS:
            if isinstance(length := table.get(key), int) and 0 < length <= _MAX_CONTEXT:
                return length
    return _UNBOUNDED_CONTEXT


def _check_limit(key: str, configured: int | None, limit: int) -> None:
    if configured is not None and configured > limit:
        raise ConfigError(f"{key} = {configured}: the model has {limit} at the most")
