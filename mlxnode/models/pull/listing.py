"""The files of a repository on the hub: which make one model, and which are on the disk."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlxnode import __version__
from mlxnode.errors import ModelError
from mlxnode.models.hub import MODEL_FILES, OTHER_COPIES
from mlxnode.models.pull.failures import hub_errors
from mlxnode.models.pull.wanted import Wanted

_TIMEOUT = 30.0  # seconds for the hub to answer
_MAX_SHOWN = 8  # files, in an error
_MAIN = "main"


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub. ``sha256`` is that of a large file, and None of a small one.

    ``blob`` is where the cache keeps its content, and ``pointer`` the link of the revision.
    """

    name: str
    size: int
    sha256: str | None
    blob: Path
    pointer: Path

    @property
    def partial(self) -> Path:
        """The content as far as it is fetched; the hub's own tools know this name as well."""
        return self.blob.with_name(f"{self.blob.name}.incomplete")

    @property
    def is_here(self) -> bool:
        """True if the whole content is on the disk."""
        return self.blob.exists() or self.pointer.exists()

    @property
    def bytes_here(self) -> int:
        """The bytes of the content that are on the disk."""
        if self.is_here:
            return self.size
        try:
            return min(self.partial.stat().st_size, self.size)
        except OSError:
            return 0


@dataclass(frozen=True)
class Listing:
    """A model on the hub at one commit. ``cache`` is the folder of the hub's cache."""

    repository: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]
    cache: Path

    @property
    def storage(self) -> Path:
        """The folder of the repository in the cache."""
        return storage_of(self.cache, self.repository)

    @property
    def snapshot(self) -> Path:
        """The folder of the commit in the cache."""
        return self.storage / "snapshots" / self.commit

    @property
    def path(self) -> Path:
        """The model in the cache: a folder, or one GGUF file."""
        (first, *rest) = self.files
        is_gguf = not rest and first.name.endswith(".gguf")
        return self.snapshot / first.name if is_gguf else self.snapshot

    @property
    def is_complete(self) -> bool:
        """True if every file is on the disk, and the revision leads to this commit."""
        reference = self.storage / "refs" / self.revision
        is_named = self.revision == self.commit or (
            reference.is_file() and reference.read_text().strip() == self.commit
        )
        return is_named and all(file.pointer.exists() for file in self.files)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> int:
        """The bytes that are still to be fetched."""
        return self.size - sum(file.bytes_here for file in self.files)


def storage_of(cache: Path, repository: str) -> Path:
    """The folder of ``repository`` in the hub's cache."""
    return cache / f"models--{repository.replace('/', '--')}"


def ask_hub(wanted: Wanted) -> Listing:
    """The files of ``wanted``, from the hub. Nothing is written.

    Raises:
        ModelError: the hub cannot be asked, has no such model, or has several in one.
    """
    from huggingface_hub import HfApi, constants

    with hub_errors(wanted.repository, wanted.revision):
        api = HfApi(library_name="mlxnode", library_version=__version__)
        info = api.model_info(
            wanted.repository, revision=wanted.revision, files_metadata=True, timeout=_TIMEOUT
        )
    found = {file.rfilename: file for file in info.siblings or []}
    names = choose(wanted, {name: file.size or 0 for name, file in found.items()})
    repository, commit = info.id or wanted.repository, info.sha or ""
    cache = Path(constants.HF_HUB_CACHE).expanduser()
    storage = storage_of(cache, repository)
    files = []
    for name in names:
        if not _is_plain(name):
            raise ModelError(f"{repository}: the hub names a file {name!r:.80}")
        file = found[name]
        sha256 = file.lfs.sha256 if file.lfs is not None else None
        blob = storage / "blobs" / PurePosixPath(sha256 or file.blob_id or name).name
        pointer = storage / "snapshots" / commit / name
        files.append(RemoteFile(name, file.size or 0, sha256, blob, pointer))
    return Listing(repository, wanted.revision or _MAIN, commit, tuple(files), cache)


def _is_plain(name: str) -> bool:
    """True if ``name`` stays in its folder."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


def choose(wanted: Wanted, sizes: dict[str, int]) -> list[str]:
    """The names of the files that make the model; ``sizes`` has those of all files.

    Raises:
        ModelError: there is no model of a kind that can be served, or it is not clear which.
    """
    ggufs = [name for name in sizes if _is_gguf_model(name)]
    if wanted.tag:
        tag = wanted.tag.lower()
        chosen = [name for name in ggufs if tag in name.lower()]
        exact = [name for name in chosen if PurePosixPath(name).stem.lower().endswith(tag)]
        return _only_gguf(wanted, exact or chosen, ggufs, sizes)
    if wanted.include:
        chosen = [name for name in sizes if _matches(name, wanted.include)]
        if not chosen:
            patterns = ", ".join(wanted.include)
            raise ModelError(
                f"{wanted.repository} has no file {patterns}; it has {_some(list(sizes))}"
            )
        if all(name.endswith(".gguf") for name in chosen):
            return _only_gguf(wanted, chosen, ggufs, sizes)
        return chosen
    if any(name.endswith(".safetensors") for name in sizes):
        return [
            name
            for name in sizes
            if _matches(name, MODEL_FILES) and not _matches(name, OTHER_COPIES)
        ]
    if ggufs:
        return _only_gguf(wanted, ggufs, ggufs, sizes)
    name = wanted.repository.rpartition("/")[2]
    raise ModelError(
        f"{wanted.repository} has neither *.safetensors nor *.gguf files; look for a converted "
        "model: "
        f"https://huggingface.co/models?author=mlx-community&search={name}"
    )


def _only_gguf(
    wanted: Wanted, chosen: Sequence[str], ggufs: Sequence[str], sizes: dict[str, int]
) -> list[str]:
    """One GGUF file is one model."""
    if len(chosen) == 1:
        return [*chosen]
    example = PurePosixPath((chosen or ggufs or ["model-Q4_K_M.gguf"])[0]).name
    if not chosen:
        what = f"has no GGUF file {wanted.tag!r}"
    elif all("-of-" in name for name in chosen):
        raise ModelError(
            f"{wanted.repository}: {_some(chosen)} is one model in {len(chosen)} parts, which "
            "is not supported: name a GGUF file of one part"
        )
    else:
        what = f"has {len(chosen)} such GGUF files, each of which is a model"
    shown = _some([f"{name} ({sizes[name] / 1e9:.2f} GB)" for name in (chosen or ggufs)])
    raise ModelError(
        f"{wanted.repository} {what}; name one, as in {wanted.repository}/{example}: {shown}"
    )


def _is_gguf_model(name: str) -> bool:
    """The file beside a model that describes its images is no model."""
    return name.endswith(".gguf") and "mmproj" not in name.lower()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MAX_SHOWN
    return ", ".join(names[:_MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")
