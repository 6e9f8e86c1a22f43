"""The folders and files that can be models, and how each is named."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlxnode.models.discovery.listing import Entry

_SIGNS = ("config.json", "model_index.json", "adapter_config.json")  # of a model's folder
_PART = re.compile(r"-(\d{5})-of-(\d{5})$")  # of a GGUF file that was split
_PROJECTOR = re.compile(r"(^|[-_.])mmproj([-_.]|$)", re.IGNORECASE)
# What programs call the file of a download that has not ended.
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".download")
_CONTROL = ".aria2"  # beside a file whose download has not ended
_MAX_ID = 200


@dataclass(frozen=True)
class Candidate:
    """A folder or a GGUF file that can be a model.

    ``name`` is the last part of the id, without the organisation; of a GGUF file, its own name.
    ``problem``: why it is not served, if that is known from its name or its place.
    """

    id: str
    path: Path
    name: str
    problem: str = ""


def is_id(text: str) -> bool:
    """True if clients can write ``text`` as the name of a model."""
    return 0 < len(text) <= _MAX_ID and text.isprintable() and text.strip() == text


def candidates_in(folder: Path, id: str, entries: Sequence[Entry]) -> list[Candidate]:
    """The models directly in ``folder``, which is called ``id``: one, or some GGUF files.

    Several GGUF files are ``<id>/<name of the file>`` each; without an ``id``, only that name.
    """
    names = {entry.name for entry in entries if not entry.is_folder}
    ggufs = [entry for entry in entries if _is_gguf_model(entry)]
    has_weights = any(name.endswith(".safetensors") for name in names)
    if names.isdisjoint(_SIGNS) or (ggufs and not has_weights):
        return list(_ggufs(id, ggufs))
    found = Candidate(id, folder, id.rpartition("/")[2])
    if "config.json" not in names:
        is_pipeline = "model_index.json" in names
        problem = (
            "it is a pipeline of diffusers, which makes no text"
            if is_pipeline
            else "it is an adapter; name its folder as adapter of a model"
        )
        return [replace(found, problem=problem)]
    return [replace(found, problem=_unfinished(folder, names))]


def _is_gguf_model(entry: Entry) -> bool:
    path = entry.path
    return path.suffix == ".gguf" and not entry.is_folder and not _PROJECTOR.search(path.stem)


def _ggufs(id: str, entries: Sequence[Entry]) -> Iterator[Candidate]:
    parts = {entry.path: _PART.search(entry.path.stem) for entry in entries}
    whole = {path: part for path, part in parts.items() if not part or part[1] == "00001"}
    for path, part in whole.items():
        stem = path.stem
        own = id if id and len(whole) == 1 else f"{id}/{stem}".removeprefix("/")
        problem = (
            f"it is a part of a model in {int(part[2])} files; join them: "
            "llama-gguf-split --merge FIRST-FILE JOINED-FILE"
            if part
            else ""
        )
        yield Candidate(own, path, stem, problem)


def _unfinished(folder: Path, names: set[str]) -> str:
    """Which download into ``folder`` has not ended, in words."""
    for name in sorted(names):
        is_left = name.endswith(_UNFINISHED) and name.rpartition(".")[0] not in names
        if is_left or name.endswith(_CONTROL):
            return f"its download is incomplete: {name}"
    # What the hub's command line leaves in a folder that it fills.
    hidden = folder / ".cache/huggingface/download"
    try:
        newest = max((folder / name).lstat().st_mtime_ns for name in names)
        left = [it for it in hidden.glob("*.incomplete") if it.lstat().st_mtime_ns >= newest]
    except OSError:
        return ""
    return f"its download is incomplete: {left[0].name}" if left else ""
