"""The models in a cache of the Hugging Face hub.

Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath

from mlxnode.errors import ModelError
from mlxnode.models.discovery.candidates import Candidate, candidates_in
from mlxnode.models.discovery.listing import Lister

_PREFIX = "models--"
_MAX_REF = 200  # bytes of a file with the name of a revision


def is_repository_folder(name: str) -> bool:
    """True if a folder of this name is a model's in a cache of the hub."""
    return name.startswith(_PREFIX) and len(name) > len(_PREFIX)


def hub_folder() -> Path:
    """``$HF_HUB_CACHE``, else the folder below ``$HF_HOME``, else the usual one."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def walk_hub(lister: Lister, cache: Path) -> Iterator[Candidate]:
    """The newest revision of each model in ``cache``, called as its repository."""
    try:
        entries = lister.list(cache)
    except ModelError as error:
        yield Candidate(cache.name, cache, cache.name, str(error))
        return
    for entry in entries:
        if entry.is_folder and is_repository_folder(entry.name):
            yield from walk_repository(lister, entry.path)


def walk_repository(lister: Lister, repository: Path) -> Iterator[Candidate]:
    """The model of one repository, or its GGUF files."""
    id = repository.name.removeprefix(_PREFIX).replace("--", "/")
    name = id.rpartition("/")[2]
    try:
        snapshot = _snapshot(lister, repository)
        found = candidates_in(snapshot, id, lister.list(snapshot))
        problem = _unfinished(repository)
    except (ModelError, OSError) as error:
        yield Candidate(id, repository, name, str(error))
        return
    for candidate in found:
        yield replace(candidate, problem=candidate.problem or problem)
    if not found:
        yield Candidate(
            id, snapshot, name, problem or "it has no config.json and no .gguf file"
        )


def _snapshot(lister: Lister, repository: Path) -> Path:
    """The folder of the revision that main names, else of the one that came last.

    Raises:
        ModelError: there is none.
    """
    main = repository / "refs/main"
    if main.is_file() and main.stat().st_size <= _MAX_REF:
        revision = main.read_text(errors="replace").strip()
        found = repository / "snapshots" / revision
        if revision and PurePath(revision).name == revision and found.is_dir():
            return found
    folders = [entry.path for entry in lister.list(repository / "snapshots") if entry.is_folder]
    if not folders:
        raise ModelError("its download is incomplete: there is no revision")
    return max(folders, key=lambda folder: folder.stat().st_mtime_ns)


def _unfinished(repository: Path) -> str:
    """Which download has not ended, in words. A file is called as its digest until it has."""
    for file in sorted((repository / "blobs").glob("*.incomplete")):
        if not (file.parent / file.name.partition(".")[0]).exists():
            return f"its download is incomplete: {file.name:.60}"
    return ""
