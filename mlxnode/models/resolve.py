"""From the configuration to models on disk, with the facts that every process needs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from mlxnode.config.tables import ApiConfig, ModelConfig, NodeConfig
from mlxnode.errors import ConfigError, ModelError
from mlxnode.models import gguf
from mlxnode.models.demo import DEMO_MODELS, demo_path, fetch_demo_model
from mlxnode.models.sentence import ENCODER_TYPES, read_sentence_config
from mlxnode.models.served import ServedModel

Progress = Callable[[str], None]

_DEMO = "demo/"
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
_UNBOUNDED_CONTEXT = 131_072  # for recurrent models, which name no limit
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model")
_TEMPLATE_FILES = ("chat_template.jinja", "additional_chat_templates")
# What a hub repository is asked for: no second copy of the weights in another format.
_HUB_FILES = [
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.txt",
    "*.model",
    "*.tiktoken",
]
_NOT_HUB_FILES = ["consolidated*"]  # the same weights again, in Mistral's own format


@dataclass(frozen=True)
class Files:
    """A model on disk; ``weights`` is ``folder``, or a GGUF file."""

    folder: Path
    weights: Path

    @property
    def weight_files(self) -> list[Path]:
        if self.weights.is_file():
            return [self.weights]
        return sorted(self.weights.glob("*.safetensors"))


def demo_config() -> NodeConfig:
    """What is served when there is no configuration file: the demo models, on loopback."""
    types = {"smollm2-135m-instruct": "chat", "all-minilm-l6-v2": "embedding"}
    models = {name: ModelConfig(path=_DEMO + name, type=types[name]) for name in DEMO_MODELS}
    return NodeConfig(api=ApiConfig(require_auth=False, models=models))


def resolve_models(
    config: NodeConfig, progress: Progress, *, folder: Path | None = None
) -> list[ServedModel]:
    """Find, fetch and describe every configured model.

    Relative paths are relative to ``folder``, by default the current one.

    Raises:
        ModelError: a model is missing, cannot be fetched, or cannot be served as its type.
        ConfigError: no model is configured, or a value exceeds what its model can do.
    """
    if not config.api.models:
        raise ConfigError("api.models: no model is configured; add a table [api.models.<id>]")
    resolved = []
    for id, model in config.api.models.items():
        try:
            resolved.append(_describe(id, model, _fetch(model, folder or Path.cwd(), progress)))
        except (ModelError, ConfigError) as error:
            raise type(error)(f'api.models.{id} (path = "{model.path}"): {error}') from error
    return resolved


def describe_models(
    config: NodeConfig, *, folder: Path | None = None
) -> list[tuple[str, str, str, str, str, str]]:
    """Id, type, size, context length, whether on disk, and path of each; fetches nothing."""
    rows = []
    for id, model in config.api.models.items():
        size = context = "-"
        on_disk = "no"
        try:
            files = _find(model, folder or Path.cwd())
            if files is not None:
                served = _describe(id, model, files)
                size, context = f"{served.size_bytes / 1e6:.0f} MB", str(served.context_length)
                on_disk = "yes"
        except (ModelError, ConfigError) as error:
            on_disk = f"error: {error}"
        rows.append((id, model.type, size, context, on_disk, model.path))
    return rows


# --- from a path to files -----------------------------------------------------------


def _fetch(model: ModelConfig, base: Path, progress: Progress) -> Files:
    """The model's files, downloaded if they are not here."""
    found = _find(model, base)
    if found is not None:
        return found
    if model.path.startswith(_DEMO):
        return _files(fetch_demo_model(model.path.removeprefix(_DEMO), progress))
    if _is_hub_id(model.path):
        progress(f"fetching {model.path} from the Hugging Face hub")
        return _files(_fetch_from_hub(model.path))
    raise ModelError("there is no such folder or .gguf file")


def _find(model: ModelConfig, base: Path) -> Files | None:
    """The model's files if they are on disk."""
    if model.path.startswith(_DEMO):
        path = demo_path(model.path.removeprefix(_DEMO))
    else:
        path = base / Path(model.path).expanduser()
        if not path.exists() and _is_hub_id(model.path):
            cached = _find_in_hub_cache(model.path)
            return None if cached is None else _files(cached)
    return _files(path) if path.exists() else None


def _files(path: Path) -> Files:
    if path.is_dir():
        return Files(path, path)
    if path.suffix != ".gguf":
        raise ModelError("expected a folder or a .gguf file")
    return Files(gguf.model_folder(path), path)


def _is_hub_id(path: str) -> bool:
    """Whether a path that does not exist can be meant as ``organisation/name``."""
    if path.count("/") != 1 or path.startswith("~") or path.endswith(".gguf"):
        return False
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(path)
    except HFValidationError:
        return False
    return True


def _find_in_hub_cache(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repository,
                allow_patterns=_HUB_FILES,
                ignore_patterns=_NOT_HUB_FILES,
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError:
        return None


def _fetch_from_hub(repository: str) -> Path:
    import httpx2
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository, allow_patterns=_HUB_FILES, ignore_patterns=_NOT_HUB_FILES
            )
        )
    except (httpx2.HTTPError, OSError) as error:  # the hub's own errors are OSErrors
        raise ModelError(
            "it is no folder here, and fetching it from the Hugging Face hub failed "
            f"({type(error).__name__}); check the name, the network and, for a gated model, "
            "HF_TOKEN"
        ) from error


# --- from files to facts ------------------------------------------------------------


def _describe(id: str, model: ModelConfig, files: Files) -> ServedModel:
    config = _read_config(files.folder)
    if not files.weight_files:
        raise ModelError(f"there are no *.safetensors files in {files.folder}")
    architecture = config["model_type"]
    if architecture not in ENCODER_TYPES and not _is_known_to_mlx_lm(architecture):
        raise ModelError(f"model_type {architecture!r} is none that mlx-lm knows")
    dimensions, matryoshka = None, ()
    if model.type == "embedding":
        sentence = read_sentence_config(files.folder)
        own_context = sentence.max_length
        dimensions = model.dimensions or sentence.dimensions
        _check_limit("dimensions", model.dimensions, sentence.dimensions)
        declared = model.matryoshka_dimensions or ()
        _check_limit("matryoshka_dimensions", max(declared, default=None), dimensions)
        matryoshka = tuple(
            size for size in declared or sentence.matryoshka if size <= dimensions
        )
    else:
        if architecture in ENCODER_TYPES:
            raise ModelError(
                f'it is a {architecture} encoder and generates no text; set type = "embedding"'
            )
        if not any((files.folder / name).exists() for name in _TOKENIZER_FILES):
            raise ModelError(f"there is no tokenizer in {files.folder}")
        if model.type == "chat" and not _has_chat_template(files.folder):
            raise ModelError('it has no chat template; set type = "completion"')
        own_context = _context_length(config)
    _check_limit("context_length", model.context_length, own_context)
    return ServedModel(
        id=id,
        type=model.type,
        folder=files.folder,
        weights=files.weights,
        architecture=architecture,
        context_length=model.context_length or own_context,
        dimensions=dimensions,
        default_temperature=model.default_temperature,
        size_bytes=sum(file.stat().st_size for file in files.weight_files),
        created=int(max(file.stat().st_mtime for file in files.weight_files)),
        matryoshka=matryoshka,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.exists():
        raise ModelError(f"there is no config.json in {folder}")
    config = _read_json(file)
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{file} names no model_type")
    return config


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).exists() for name in _TEMPLATE_FILES):
        return True
    file = folder / "tokenizer_config.json"
    config = _read_json(file) if file.exists() else {}
    return bool(config.get("chat_template") or config.get("chat_template_type"))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file}: expected a JSON object")
    return value


@cache
def _is_known_to_mlx_lm(model_type: str) -> bool:
    """Whether mlx-lm has a module of that name, or maps the name to another's.

    Looked up in its files: importing it would import mlx.
    """
    spec = PathFinder.find_spec("mlx_lm")
    if spec is None:  # an editable installation; the engine will tell
        return True
    (package,) = map(Path, spec.submodule_search_locations)
    if (package / "models" / f"{model_type}.py").exists():
        return True
    return f'"{model_type}"' in (package / "utils.py").read_text(encoding="utf-8")


def _context_length(config: dict[str, Any]) -> int:
    for table in (config, config.get("text_config", {})):
        for key in _CONTEXT_KEYS:
            if isinstance(length := table.get(key), int) and length > 0:
                return length
    return _UNBOUNDED_CONTEXT


def _check_limit(key: str, configured: int | None, own: int) -> None:
    if configured is not None and configured > own:
        raise ConfigError(f"{key} = {configured}: the model has {own} at the most")
