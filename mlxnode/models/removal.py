"""Removes what mlxnode or the hub's tools have fetched, and nothing that is the user's own.

Managed are the cache of the Hugging Face hub, the demo models, and the folders that are derived
from GGUF files in them.
"""

import os
import shutil
from collections.abc import Callable, Sequence
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
    name: str, config: NodeConfig, folder: Path, aliases: dict[str, str]
) -> Removal:
    """What ``mlxnode rm name`` removes; ``name`` is an id, an alias, a hub id or a demo id.

    Raises:
        ModelError: there is no such model, it is not on the disk, or it is the user's own.
    """
    id = aliases.get(name, name)
    models = config.api.models
    path = models[id].path if id in models else id
    if path.removeprefix(_DEMO) in DEMO_MODELS and not (folder / path).exists():
        target: Path | str = path.removeprefix(_DEMO)
        plan = _plan_demo(path.removeprefix(_DEMO))
    else:
        found = folder / Path(path).expanduser()
        repository = _repository_of(found) if found.exists() else None
        if repository is None and found.exists():
            raise ModelError(
                f"{name} is your own: mlxnode has not fetched {found} and does not remove it"
            )
        if repository is None and not is_repository_id(path):
            known = ", ".join(models) or "none"
            raise ModelError(f"no model is called {name!r}; there are {known}, and hub ids")
        target = repository or path
        plan = _plan_repository(target)
    ids = [id for id, model in models.items() if _target_of(model.path, folder) == target]
    return Removal(plan.what, plan.paths, plan.size, tuple(ids), plan.run)


def _target_of(path: str, folder: Path) -> str:
    """The demo model or the repository that ``path`` of the configuration leads to."""
    if path.startswith(_DEMO):
        return path.removeprefix(_DEMO)
    found = folder / Path(path).expanduser()
    return (_repository_of(found) or str(found)) if found.exists() else path


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


def _plan_repository(repository: str) -> Removal:
    """The hub's library counts and deletes, because repositories may share contents."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    storage = storage_of(_cache(), repository)
    if not storage.is_dir():
        raise ModelError(f"{repository} is not on the disk: there is no {storage}")
    try:
        cache = scan_cache_dir(_cache())
    except CacheNotFound as error:
        raise ModelError(f"{repository} is not on the disk") from error
    found = [repo for repo in cache.repos if repo.repo_path.name == storage.name]
    # Of this repository alone: copies of a repository have the same commits.
    own = replace(cache, repos=frozenset(found))
    revisions = [revision for repo in found for revision in repo.revisions]
    strategy = own.delete_revisions(*(revision.commit_hash for revision in revisions))
    ggufs = [
        file.file_path
        for revision in revisions
        for file in revision.files
        if file.file_name.endswith(".gguf")
    ]
    derived = _derived(ggufs)
    partial = sorted((storage / "blobs").glob("*.incomplete"))
    size = strategy.expected_freed_size + _bytes([*derived, *partial])

    def run() -> None:
        strategy.execute()
        for each in (*derived, storage, _cache() / ".locks" / storage.name):
            shutil.rmtree(each, ignore_errors=True)

    return Removal(repository, (storage, *derived), size, (), run)


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
