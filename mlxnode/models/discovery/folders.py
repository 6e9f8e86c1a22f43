"""The models in a folder and in two levels of folders below it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mlxnode.errors import ModelError
from mlxnode.models.discovery.candidates import Candidate, candidates_in
from mlxnode.models.discovery.hub_cache import is_repository_folder, walk_repository
from mlxnode.models.discovery.listing import Lister

_LEVELS = 2


def walk(lister: Lister, root: Path, *, is_by_organisation: bool) -> Iterator[Candidate]:
    """The models in ``root``, in its folders and in the folders of these.

    Each is called as its folder; ``is_by_organisation``: as ``organisation/name``, two levels
    down. What cannot be read is a candidate with that problem.
    """
    yield from _walk(lister, root, root.name, 0, is_by_organisation)


def _walk(
    lister: Lister, folder: Path, id: str, depth: int, is_by_organisation: bool
) -> Iterator[Candidate]:
    try:
        entries = lister.list(folder)
    except ModelError as error:
        yield Candidate(id, folder, folder.name, str(error))
        return
    found = candidates_in(folder, id if depth else "", entries)
    if [it.path for it in found] == [folder]:
        yield replace(found[0], id=id, name=folder.name)
        return
    yield from found
    if depth == _LEVELS:
        return
    for entry in entries:
        if entry.is_folder and is_repository_folder(entry.name):
            yield from walk_repository(lister, entry.path)
        elif entry.is_folder:
            inner = f"{id}/{entry.name}" if depth and is_by_organisation else entry.name
            yield from _walk(lister, entry.path, inner, depth + 1, is_by_organisation)
