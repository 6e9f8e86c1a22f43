"""All models on the disk: where to look, which can be served, and why the others cannot."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlxnode.config.file import Skipped
from mlxnode.config.tables import DiscoveryConfig, ModelConfig
from mlxnode.errors import ConfigError, ModelError, reason_of
from mlxnode.models.describe import describe
from mlxnode.models.discovery.candidates import Candidate, is_id
from mlxnode.models.discovery.folders import walk
from mlxnode.models.discovery.hub_cache import hub_folder, walk_hub
from mlxnode.models.discovery.kinds import check_gguf, kind_of_folder, kind_of_gguf
from mlxnode.models.discovery.listing import Lister
from mlxnode.models.discovery.lm_studio import lm_studio_folders
from mlxnode.models.files import ModelFiles
from mlxnode.models.gguf.folder import model_folder

_MAX_MODELS = 2000


@dataclass
class Found:
    """The models that were found, by id, and what is not served.

    ``names`` are the last parts of the ids and the names of GGUF files, from which aliases are
    made. ``warnings`` are about places that could not be searched.
    """

    models: dict[str, ModelConfig] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_models(
    discovery: DiscoveryConfig,
    folder: Path,
    *,
    configured: dict[str, ModelConfig] | None = None,
    progress: Callable[[str], None] = lambda text: None,
    lister: Lister | None = None,
) -> Found:
    """Look at every place of ``discovery``. Relative paths are relative to ``folder``.

    A model whose id or whose files are those of a ``configured`` one is skipped.

    Raises:
        ConfigError: a path of ``search`` begins with the home folder of nobody.
    """
    found = Found()
    lister = lister or Lister()
    known = _Known(configured or {}, folder)
    for candidate in _candidates(discovery, folder, lister, found.warnings):
        if len(found.models) + len(found.skipped) >= _MAX_MODELS:
            found.warnings.append(
                f"server.discovery: only the first {_MAX_MODELS} are looked at"
            )
            break
        try:
            if lister.is_late:
                raise ModelError("the search took too long; `mlxnode reload` goes on with it")
            known.check(candidate)
            table = _table_of(candidate, discovery, progress)
        except Exception as error:  # of any type: the files are foreign data
            found.skipped.append(Skipped(candidate.id, candidate.path, reason_of(error)))
            continue
        known.add(candidate)
        found.models[candidate.id] = table
        names = (candidate.id.rpartition("/")[2], candidate.name)
        found.names[candidate.id] = list(dict.fromkeys(names))
    return found


def _candidates(
    discovery: DiscoveryConfig, folder: Path, lister: Lister, warnings: list[str]
) -> Iterator[Candidate]:
    for name in discovery.search:
        try:
            root = (folder / Path(name).expanduser()).absolute()
        except RuntimeError as error:
            raise ConfigError(f'server.discovery.search = "{name}": {error}') from error
        if root.is_dir():
            yield from walk(lister, root, is_by_organisation=False)
        else:
            warnings.append(f'server.discovery.search: "{name}" is no folder')
    if discovery.huggingface and (cache := hub_folder()).is_dir():
        yield from walk_hub(lister, cache)
    if discovery.lm_studio:
        for root in lm_studio_folders():
            yield from walk(lister, root, is_by_organisation=True)


class _Known:
    """The ids and the files that are taken."""

    def __init__(self, configured: dict[str, ModelConfig], folder: Path):
        self._ids = dict.fromkeys(configured, "the configuration")
        self._files: dict[Path, str] = {}
        self._repositories = {model.path: id for id, model in configured.items()}
        for id, model in configured.items():
            try:
                path = folder / Path(model.path).expanduser()
                self._files[path.resolve()] = id
            except (OSError, RuntimeError, ValueError):  # whoever resolves the path says so
                continue

    def check(self, candidate: Candidate) -> None:
        """Raises ModelError if the candidate is not new, or no model."""
        if not is_id(candidate.id):
            raise ModelError("its name can be no id: it is too long, or has odd characters")
        if candidate.problem:
            raise ModelError(candidate.problem)
        if (first := self._ids.get(candidate.id)) is not None:
            raise ModelError(f"{candidate.id} is the id of another model, from {first}")
        if (first := self._files.get(candidate.path.resolve())) is not None:
            raise ModelError(f"it is served as {first}")
        if (first := self._repositories.get(candidate.id)) is not None:
            raise ModelError(f"it is served as {first}")

    def add(self, candidate: Candidate) -> None:
        self._ids[candidate.id] = str(candidate.path)
        self._files[candidate.path.resolve()] = candidate.id


def _table_of(
    candidate: Candidate, discovery: DiscoveryConfig, progress: Callable[[str], None]
) -> ModelConfig:
    """The table that describes the model, as the configuration could have it.

    Raises:
        ModelError: it cannot be served.
    """
    path = candidate.path
    if path.is_dir():
        files = ModelFiles(path, path)
        kind = kind_of_folder(path, candidate.name)
    else:
        check_gguf(path)
        files = ModelFiles(model_folder(path, progress), path)
        kind = kind_of_gguf(files)
    table = ModelConfig(
        path=str(path),
        type=kind,
        preload=False,
        idle_unload=discovery.idle_unload or None,
    )
    describe(candidate.id, table, files)
    return table
