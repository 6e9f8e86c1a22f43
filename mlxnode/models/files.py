"""From the configured path of a model to its files on disk, fetched if necessary."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlxnode.errors import ModelError
from mlxnode.models import hub
from mlxnode.models.demo import demo_path, fetch_demo_model
from mlxnode.models.gguf.folder import model_folder
from mlxnode.models.plain_files import check_file

Progress = Callable[[str], None]

_DEMO = "demo/"


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk. ``folder`` holds config.json and the tokenizer's files.

    ``weights`` is the same folder (safetensors), or a GGUF file.
    """

    folder: Path
    weights: Path

    @property
    def weight_files(self) -> list[Path]:
        if self.weights.is_file():
            return [self.weights]
        return sorted(self.weights.glob("*.safetensors"))


def find_files(path: str, base: Path) -> ModelFiles | None:
    """The files of the model, or None if they are not on disk.

    Relative paths are relative to ``base``.

    Raises:
        ModelError: the path is not a model.
    """
    if path.startswith(_DEMO):
        found = demo_path(path.removeprefix(_DEMO))
    else:
        found = base / Path(path).expanduser()
        if not found.exists() and hub.is_repository_id(path):
            cached = hub.find_in_cache(path)
            return None if cached is None else _files_at(cached)
    return _files_at(found) if found.exists() else None


def can_be_fetched(path: str) -> bool:
    """True if ``path``, which is not on the disk, names a model that can be downloaded."""
    return path.startswith(_DEMO) or hub.is_repository_id(path)


def fetch_files(path: str, base: Path, progress: Progress) -> ModelFiles:
    """The files of the model, downloaded if they are not on disk.

    Raises:
        ModelError: the path is not a model, or the download failed.
    """
    found = find_files(path, base)
    if found is not None:
        return found
    if path.startswith(_DEMO):
        return _files_at(fetch_demo_model(path.removeprefix(_DEMO), progress))
    if hub.is_repository_id(path):
        progress(f"fetching {path} from the Hugging Face hub")
        return _files_at(hub.fetch(path))
    raise ModelError(f"{path}: there is no such folder or .gguf file")


def _files_at(path: Path) -> ModelFiles:
    if path.is_dir():
        return ModelFiles(path, path)
    if path.suffix != ".gguf":
        raise ModelError(f"{path}: expected a folder or a .gguf file")
    check_file(path)
    return ModelFiles(model_folder(path), path)
