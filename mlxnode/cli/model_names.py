"""Completes the names of models in a shell: in a moment, so from their places alone."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from mlxnode.models.discovery.candidates import Candidate

_TIMEOUT = 0.15  # seconds to look at the disk


def complete_model(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The ids and the aliases that begin so, or files; nothing if anything is wrong."""
    if incomplete.startswith(("/", "~", ".")):
        return [CompletionItem(incomplete, type="file")]
    try:
        names = sorted(set(_names(ctx.params.get("config"))))
    except Exception:  # of any type: a shell shows no errors
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _names(config: Path | None) -> Iterator[str]:
    """Those in the file, which need not be valid, those on the disk, and the demo models."""
    import tomli

    from mlxnode.config.place import find_config
    from mlxnode.models.demo import DEMO_MODELS
    from mlxnode.models.discovery.aliases import short_names

    yield from DEMO_MODELS
    file = config or find_config(os.environ)
    tables = tomli.loads(file.read_text()) if file is not None and file.is_file() else {}
    configured = _table(tables, "api", "models")
    yield from configured
    discovery = _table(tables, "server", "discovery")
    yield from _table(discovery, "aliases")
    found: dict[str, list[str]] = {}
    for candidate in _candidates(discovery, file.parent if file else Path.cwd()):
        if not candidate.problem:
            names = (candidate.id.rpartition("/")[2], candidate.name)
            found.setdefault(candidate.id, []).extend(names)
    yield from found
    yield from short_names(found, {*configured, *found})


def _candidates(discovery: Mapping[str, Any], folder: Path) -> "Iterator[Candidate]":
    from mlxnode.models.discovery.folders import walk
    from mlxnode.models.discovery.hub_cache import hub_folder, walk_hub
    from mlxnode.models.discovery.listing import Lister
    from mlxnode.models.discovery.lm_studio import lm_studio_folders

    lister = Lister(_TIMEOUT)
    for name in discovery.get("search", ()):
        if (root := folder / Path(name).expanduser()).is_dir():
            yield from walk(lister, root, is_by_organisation=False)
    if discovery.get("huggingface", True) and (cache := hub_folder()).is_dir():
        yield from walk_hub(lister, cache)
    for root in lm_studio_folders() if discovery.get("lm_studio", True) else ():
        yield from walk(lister, root, is_by_organisation=True)


def _table(tables: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The table at ``path``, empty if there is none."""
    found: Any = tables
    for name in path:
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}
