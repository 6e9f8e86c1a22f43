"""What a sentence-transformers folder says about its model: pooling, length, prompts.

Read by the workers (tokenization, limits) and by the engine (pooling). Imports no mlx.
The files and their meaning are those of sentence-transformers: ``modules.json`` lists the
modules in order, each with a folder of its own.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlxnode.errors import ModelError

PoolingMode = Literal["mean", "cls", "last"]

ENCODER_TYPES = frozenset({"bert", "camembert", "modernbert", "roberta", "xlm-roberta"})

_POOLING_MODES: dict[str, PoolingMode] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_POOLING_FLAGS = {  # the older spelling, one boolean each
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_DENSE_NAMES = ("module_input_name", "module_output_name")


@dataclass(frozen=True)
class DenseConfig:
    """A ``Dense`` module: linear layer and activation on the pooled vector."""

    weights: Path  # linear.weight [out, in] and, with ``bias``, linear.bias [out]
    in_features: int
    out_features: int
    bias: bool
    activation: str  # the torch.nn class name, one of _ACTIVATIONS


@dataclass(frozen=True)
class SentenceConfig:
    """How a text becomes a vector, as far as the model's files say.

    ``max_length`` is in tokens, special tokens counted; ids are below ``vocabulary_size``.
    ``dimensions`` is the full vector size; ``matryoshka`` holds the sizes it may be cut to,
    if the model declares any. ``default_prompt`` is put before each text ("" for none).
    """

    pooling: PoolingMode
    normalize: bool
    max_length: int
    vocabulary_size: int
    dimensions: int
    matryoshka: tuple[int, ...]
    prompts: dict[str, str]
    default_prompt: str
    lowercase: bool
    dense: tuple[DenseConfig, ...]


def read_sentence_config(folder: Path) -> SentenceConfig:
    """The sentence configuration of ``folder``, which holds at least config.json.

    A folder without ``modules.json`` gets mean pooling for the encoders, the last token
    for any other architecture (a decoder), and normalised vectors.

    Raises:
        ModelError: a file is missing or broken, or asks for what is not supported.
    """
    model = _read_json(folder / "config.json")
    hidden_size = _positive(model, "hidden_size", folder / "config.json")
    if (folder / "modules.json").exists():
        pooling, dense, normalize = _read_modules(folder)
    else:
        is_encoder = model.get("model_type") in ENCODER_TYPES
        pooling, dense, normalize = {"mode": "mean" if is_encoder else "last"}, (), True
    size = hidden_size
    for layer in dense:
        if layer.in_features != size:
            raise ModelError(f"{layer.weights}: takes {layer.in_features} features, not {size}")
        size = layer.out_features

    transformer = _read_transformer_config(folder)
    prompts, default_prompt = _read_prompts(folder)
    if default_prompt and not pooling.get("include_prompt", True):
        raise ModelError(f"{folder}: pooling without the prompt's tokens is not supported")
    return SentenceConfig(
        pooling=pooling["mode"],
        normalize=normalize,
        max_length=_max_length(folder, model, transformer),
        vocabulary_size=_positive(model, "vocab_size", folder / "config.json"),
        dimensions=size,
        matryoshka=_matryoshka(model, size, folder / "config.json"),
        prompts=prompts,
        default_prompt=default_prompt,
        lowercase=bool(transformer.get("do_lower_case", False)),
        dense=dense,
    )


class SentenceTokenizer:
    """Texts to token ids, as sentence-transformers does it but never truncated.

    Safe to call from several threads.
    """

    def __init__(self, folder: Path, config: SentenceConfig):
        # Imported late: it takes a second, and who only reads the configuration needs none.
        from tokenizers.normalizers import Lowercase, Sequence
        from transformers import AutoTokenizer

        if not any((folder / name).exists() for name in _VOCABULARIES):
            # transformers would make an empty one.
            raise ModelError(f"{folder}: no tokenizer (one of {', '.join(_VOCABULARIES)})")
        try:
            loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # tokenizers raises it bare for a file it cannot use
            raise ModelError(f"{folder}: the tokenizer cannot be loaded: {error}") from error
        if not loaded.is_fast:
            raise ModelError(f"{folder}: only fast tokenizers (Rust ones) are supported")
        self._tokenizer = loaded.backend_tokenizer
        # tokenizer.json may hold a truncation and a padding; both would be wrong here.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if config.lowercase:
            normalizer = self._tokenizer.normalizer
            steps = [Lowercase()] if normalizer is None else [Lowercase(), normalizer]
            self._tokenizer.normalizer = Sequence(steps)
        self._prompt = config.default_prompt

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, default prompt and special tokens included."""
        encodings = self._tokenizer.encode_batch([self._prompt + text for text in texts])
        return [encoding.ids for encoding in encodings]


def _read_modules(folder: Path) -> tuple[dict[str, Any], tuple[DenseConfig, ...], bool]:
    """Pooling settings, Dense layers and whether vectors are normalised."""
    pooling: dict[str, Any] | None = None
    dense: list[DenseConfig] = []
    normalize = False
    modules = _read_json(folder / "modules.json", list)
    for position, module in enumerate(modules):
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        path = folder / module.get("path", "")
        if kind == "Transformer" and position == 0:
            if path != folder:
                raise ModelError(f"{folder}: a Transformer module in a subfolder, {path.name}")
        elif kind == "Pooling" and position == 1:
            pooling = _read_pooling(path / "config.json")
        elif kind == "Dense" and pooling and not normalize:
            dense.append(_read_dense(path))
        elif kind == "Normalize" and pooling:
            normalize = True
        else:
            raise ModelError(
                f"{folder / 'modules.json'}: module {position} ({kind}) is not supported; "
                "expected Transformer, Pooling, then any Dense, then Normalize or not"
            )
    if pooling is None:
        raise ModelError(f"{folder / 'modules.json'}: no Pooling module")
    return pooling, tuple(dense), normalize


def _read_pooling(file: Path) -> dict[str, Any]:
    settings = _read_json(file)
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if settings.get(flag)] or "mean"
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLING_MODES:
        raise ModelError(
            f"{file}: pooling {' + '.join(map(str, modes))} is not supported; "
            f"expected one of {', '.join(_POOLING_MODES)}"
        )
    return {
        "mode": _POOLING_MODES[modes[0]],
        "include_prompt": settings.get("include_prompt", True),
    }


def _read_dense(folder: Path) -> DenseConfig:
    file = folder / "config.json"
    settings = _read_json(file)
    names = {settings.get(key) or "sentence_embedding" for key in _DENSE_NAMES}
    if names != {"sentence_embedding"} or settings.get("use_residual"):
        raise ModelError(f"{file}: only a plain Dense module on the pooled vector is supported")
    activation = settings.get("activation_function", "Tanh").rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS:
        raise ModelError(
            f"{file}: activation_function {activation} is not supported; "
            f"expected one of {', '.join(_ACTIVATIONS)}"
        )
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise ModelError(f"{folder}: no model.safetensors")
    return DenseConfig(
        weights=weights,
        in_features=_positive(settings, "in_features", file),
        out_features=_positive(settings, "out_features", file),
        bias=settings.get("bias", True),
        activation=activation,
    )


def _read_transformer_config(folder: Path) -> dict[str, Any]:
    """The Transformer module's own settings; older models name the file by architecture."""
    names = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    files = (folder / f"sentence_{name}_config.json" for name in names)
    return next((_read_json(file) for file in files if file.exists()), {})


def _read_prompts(folder: Path) -> tuple[dict[str, str], str]:
    file = folder / "config_sentence_transformers.json"
    settings = _read_json(file) if file.exists() else {}
    prompts, name = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if name is not None and name not in prompts:
        raise ModelError(f"{file}: default_prompt_name {name!r} is none of the prompts")
    return prompts, prompts[name] if name is not None else ""


def _max_length(folder: Path, model: dict[str, Any], transformer: dict[str, Any]) -> int:
    """The stated maximum, never more than the model has positions for."""
    limits = []
    if (positions := model.get("max_position_embeddings")) is not None:
        if model.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
            positions -= model.get("pad_token_id", 1) + 1  # positions start after the padding's
        limits.append(positions)
    stated = transformer.get("max_seq_length")
    tokenizer = folder / "tokenizer_config.json"
    if stated is None and tokenizer.exists():
        stated = _read_json(tokenizer).get("model_max_length")
    if stated is not None:
        limits.append(int(stated))
    if not limits or min(limits) < 1:
        raise ModelError(f"{folder}: the files tell no maximum length")
    return min(limits)


def _read_json(file: Path, kind: type = dict) -> Any:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    if not isinstance(value, kind):
        raise ModelError(f"{file}: expected a JSON {'object' if kind is dict else 'array'}")
    return value


def _matryoshka(model: dict[str, Any], size: int, file: Path) -> tuple[int, ...]:
    """The sizes that config.json declares; ``is_matryoshka`` alone declares all of them."""
    sizes = model.get("matryoshka_dimensions")
    if not sizes:
        return tuple(range(1, size + 1)) if model.get("is_matryoshka") is True else ()
    if not (isinstance(sizes, list) and all(isinstance(n, int) and n > 0 for n in sizes)):
        raise ModelError(f"{file}: matryoshka_dimensions must be sizes, got {sizes!r}")
    return tuple(sorted(sizes))


def _positive(settings: dict[str, Any], key: str, file: Path) -> int:
    value = settings.get(key)
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"{file}: {key} must be a positive integer, got {value!r}")
    return value
