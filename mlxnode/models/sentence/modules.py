"""The modules of a sentence-transformers model: pooling, dense layers, normalization.

``modules.json`` lists the modules in order. Each module has its own folder.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlxnode.errors import ModelError
from mlxnode.models.plain_files import read_object
from mlxnode.models.sentence.json_file import positive, read_array

PoolingMode = Literal["mean", "cls", "last"]

_POOLING_MODES: dict[str, PoolingMode] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_POOLING_FLAGS = {  # the older notation, one boolean each
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")
_DENSE_NAMES = ("module_input_name", "module_output_name")


@dataclass(frozen=True)
class PoolingConfig:
    """A ``Pooling`` module. ``include_prompt``: the tokens of the prompt are pooled, too."""

    mode: PoolingMode
    include_prompt: bool = True


@dataclass(frozen=True)
class DenseConfig:
    """A ``Dense`` module: a linear layer and an activation on the pooled vector."""

    weights: Path  # linear.weight [out, in] and, with ``bias``, linear.bias [out]
    in_features: int
    out_features: int
    bias: bool
    activation: str  # the torch.nn class name, one of _ACTIVATIONS


@dataclass(frozen=True)
class Modules:
    """The steps from the hidden states of the transformer to the vector of an input."""

    pooling: PoolingConfig
    dense: tuple[DenseConfig, ...]
    normalize: bool


def read_modules(folder: Path) -> Modules:
    """The modules that ``modules.json`` in ``folder`` lists.

    Raises:
        ModelError: a file is missing or broken, or a module is not supported.
    """
    pooling: PoolingConfig | None = None
    dense: list[DenseConfig] = []
    normalize = False
    for position, module in enumerate(read_array(folder / "modules.json")):
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
    return Modules(pooling, tuple(dense), normalize)


def _read_pooling(file: Path) -> PoolingConfig:
    settings = read_object(file)
    modes: Any = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if settings.get(flag)] or "mean"
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLING_MODES:
        raise ModelError(
            f"{file}: pooling {' + '.join(map(str, modes))} is not supported; "
            f"expected one of {', '.join(_POOLING_MODES)}"
        )
    return PoolingConfig(_POOLING_MODES[modes[0]], bool(settings.get("include_prompt", True)))


def _read_dense(folder: Path) -> DenseConfig:
    file = folder / "config.json"
    settings = read_object(file)
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
        in_features=positive(settings, "in_features", file),
        out_features=positive(settings, "out_features", file),
        bias=settings.get("bias", True),
        activation=activation,
    )
