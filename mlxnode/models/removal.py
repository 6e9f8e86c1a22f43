"""Removes what mlxnode or the hub's tools have fetched, and nothing that is the user's own.

Managed are the cache of the Hugging Face hub, the demo models, and the folders that are derived
from GGUF files in them.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlxnode.config.tables import NodeConfig
from mlxnode.errors import ModelError
from mlxnode.models.cache_folder import cache_folder
from mlxnode.models.demo import DEMO_MODELS, demo_path
from mlxnode.models.hub import is_repository_id
from mlxnode.models.pull.listing import storage_of

_DEMO = "demo/"


@dataclass(frozen=True)
class Removal:
    """What would be removed. ``size``: the bytes that the disk gets back.

    ``what`` names it, as "org/name"; ``ids`` are the configured models that then lack files.
    """

    what: str
    paths: tuple[Path, ...]
    size: int
    ids: tuple[str, ...]
    run: Callable[[], None] = field(repr=False, compare=False)


def plan_removal(
    name: str, config: NodeConfig, folder: Path, aliases: Mapping[str, str]
) -> Removal:
    """What ``mlxnode rm name`` removes; ``name`` is an id, an alias, a hub id or a demo id.

    Raises:
        ModelError: there is no such model, it is not on the disk, or it is the user's own.
    """
    id = aliases.get(name, name)
    models = config.api.models
    path = models[id].path if id in models else id
    target = _target_of(path, folder)
    if isinstance(target, Path):
        raise ModelError(
            f"{name} is your own: mlxnode has not fetched {target} and does not remove it"
        )
    if target.repository in DEMO_MODELS:
        plan = _plan_demo(target.repository)
    elif is_repository_id(target.repository):
        plan = _plan_repository(target)
    else:
        known = ", ".join(models) or "none"
        raise ModelError(f"no model is called {name!r}; there are {known}, and hub ids")
    targets = {id: _target_of(model.path, folder) for id, model in models.items()}
    ids = [id for id, other in targets.items() if _is_hit(other, target)]
    return replace(plan, ids=tuple(ids))


@dataclass(frozen=True)
class _Target:
    """A demo model or a repository; of a repository, perhaps one GGUF file alone."""

    repository: str
    file: str = ""


def _target_of(path: str, folder: Path) -> _Target | Path:
    """What ``path`` of the configuration or of a user leads to; a path is the user's own."""
    if path.removeprefix(_DEMO) in DEMO_MODELS and not (folder / path).exists():
        return _Target(path.removeprefix(_DEMO))
    found = folder / Path(path).expanduser()
    if found.exists():
        repository = _repository_of(found)
        return (
            _Target(repository, found.name if found.is_file() else "") if repository else found
        )
    parts = path.split("/")
    if len(parts) > 2 and path.endswith(".gguf"):
        return _Target("/".join(parts[:2]), parts[-1])
    return _Target(path)


def _is_hit(other: _Target | Path, target: _Target) -> bool:
    """True if ``other`` lacks files when ``target`` is removed."""
    if isinstance(other, Path) or other.repository != target.repository:
        return False
    return target.file in ("", other.file)


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def _repository_of(path: Path) -> str | None:
    """The id of the repository whose folder in the hub's cache ``path`` is in, or None."""
    cache = Path(os.path.abspath(_cache()))
    path = Path(os.path.abspath(path))
    if not path.is_relative_to(cache) or path == cache:
        return None
    kind, _, name = path.relative_to(cache).parts[0].partition("--")
    return name.replace("--", "/") if kind == "models" else None


def _plan_demo(name: str) -> Removal:
    path = demo_path(name)
    folder = cache_folder() / "demo" / name
    if not folder.exists():
        raise ModelError(f"demo/{name} is not on the disk")
    folders = (folder, *_derived([path] if path.is_file() else []))

    def run() -> None:
        for each in folders:
            shutil.rmtree(each)

    return Removal(f"demo/{name}", folders, _bytes(folders), (), run)


def _plan_repository(target: _Target) -> Removal:
    """The hub's library counts and deletes, because repositories may share contents."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    repository = target.repository
    storage = storage_of(_cache(), repository)
    if not storage.is_dir():
        raise ModelError(f"{repository} is not on the disk: there is no {storage}")
    try:
        cache = scan_cache_dir(_cache())
    except CacheNotFound as error:
        raise ModelError(f"{repository} is not on the disk") from error
    # Of this repository alone: copies of a repository have the same commits.
    found = frozenset(repo for repo in cache.repos if repo.repo_path.name == storage.name)
    cache = replace(cache, repos=found)
    files = [file for repo in found for revision in repo.revisions for file in revision.files]
    ggufs = [file for file in files if file.file_name.endswith(".gguf")]
    chosen = [file for file in ggufs if file.file_name == target.file]
    if target.file and not chosen:
        raise ModelError(f"{repository} has no {target.file} on the disk")
    if target.file and len(chosen) < len(ggufs):  # the other files are other models
        derived = _derived([file.file_path for file in chosen])
        strategy = cache.delete_files(*chosen)
        paths = (*sorted({file.file_path for file in chosen}), *derived)
        size = strategy.expected_freed_size + _bytes(derived)
        what = f"{repository}/{target.file}"
        return Removal(what, paths, size, (), _deletion(strategy.execute, derived))
    revisions = [revision.commit_hash for repo in found for revision in repo.revisions]
    strategy = cache.delete_revisions(*revisions)
    derived = _derived([file.file_path for file in ggufs])
    partial = sorted((storage / "blobs").glob("*.incomplete"))
    size = strategy.expected_freed_size + _bytes([*derived, *partial])
    rest = (*derived, storage, _cache() / ".locks" / storage.name)
    return Removal(repository, (storage, *derived), size, (), _deletion(strategy.execute, rest))


def _deletion(first: Callable[[], None], folders: Sequence[Path]) -> Callable[[], None]:
    def run() -> None:
        first()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    return run


def _derived(ggufs: Sequence[Path]) -> tuple[Path, ...]:
    """The folders that are derived from these files, by any version."""
    folder = cache_folder() / "gguf"
    found = {
        each
        for file in ggufs
        for each in folder.glob(f"{_literal(file.stem)}-{'[0-9a-f]' * 16}")
        if each.is_dir()
    }
    return tuple(sorted(found))


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _bytes(paths: Sequence[Path]) -> int:
    """The bytes on the disk, each file once, links not followed."""
    sizes: dict[tuple[int, int], int] = {}
    for path in paths:
        files = [path] if path.is_file() else path.rglob("*")
        for file in files:
            state = file.lstat()
            if not file.is_dir() or file.is_symlink():
                sizes[state.st_dev, state.st_ino] = state.st_size
    return sum(sizes.values())
