"""From the configured path of a model to its files on disk, fetched if necessary."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mlxnode.errors import ModelError
from mlxnode.models import hub
from mlxnode.models.adapter import fetch_adapter, find_adapter
from mlxnode.models.demo import demo_path, fetch_demo_model
from mlxnode.models.gguf.folder import model_folder
from mlxnode.models.plain_files import check_file

Progress = Callable[[str], None]

_DEMO = "demo/"


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk. ``folder`` holds config.json and the tokenizer's files.

    ``weights`` is the same folder (safetensors), or a GGUF file. ``adapter`` is the folder of
    the adapter that is configured.
    """

    folder: Path
    weights: Path
    adapter: Path | None = None

    @property
    def weight_files(self) -> list[Path]:
        if self.weights.is_file():
            return [self.weights]
        return sorted(self.weights.glob("*.safetensors"))


def find_files(path: str, base: Path, adapter: str | None = None) -> ModelFiles | None:
    """The files of the model and of its adapter, or None if they are not all on disk.

    Relative paths are relative to ``base``.

    Raises:
        ModelError: the path is not a model, or ``adapter`` is no folder.
    """
    if (found := _find_model(path, base)) is None or adapter is None:
        return found
    folder = find_adapter(adapter, base)
    return None if folder is None else replace(found, adapter=folder)


def _find_model(path: str, base: Path) -> ModelFiles | None:
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


def fetch_files(
    path: str,
    base: Path,
    progress: Progress,
    adapter: str | None = None,
    *,
    meter: hub.Meter | None = None,
) -> ModelFiles:
    """The files of the model and of its adapter, downloaded if they are not on disk.

    ``meter`` shows downloads from the hub; without it, ``progress`` gets a line of each.

    Raises:
        ModelError: the path is not a model, ``adapter`` is no folder, or the download failed.
    """
    found = _fetch_model(path, base, progress, meter)
    if adapter is None:
        return found
    return replace(found, adapter=fetch_adapter(adapter, base, meter))


def _fetch_model(
    path: str, base: Path, progress: Progress, meter: hub.Meter | None
) -> ModelFiles:
    found = _find_model(path, base)
    if found is not None:
        return found
    if path.startswith(_DEMO):
        return _files_at(fetch_demo_model(path.removeprefix(_DEMO), progress))
    if hub.is_repository_id(path):
        if meter is None:
            progress(f"fetching {path} from the Hugging Face hub")
        return _files_at(hub.fetch(path, meter))
    raise ModelError(f"{path}: there is no such folder or .gguf file")


def _files_at(path: Path) -> ModelFiles:
    if path.is_dir():
        return ModelFiles(path, path)
    if path.suffix != ".gguf":
        raise ModelError(f"{path}: expected a folder or a .gguf file")
    check_file(path)
    return ModelFiles(model_folder(path), path)
