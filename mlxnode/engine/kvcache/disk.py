"""The prefix cache on disk: prefixes survive a restart of the process.

A file holds one sequence: its KV cache in mlx-lm's format of prompt caches, its tokens in the
metadata. The name of the folder depends on everything that the KV cache depends on, so another
version of the model or of mlxnode does not find the files. When the limit is reached, the least
recently used files are removed, also those of other models and versions.
"""

import hashlib
import json
import logging
import os
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.cache import load_prompt_cache, save_prompt_cache
from safetensors import SafetensorError, safe_open

from mlxnode import __version__
from mlxnode.engine.kvcache.entries import DiskEntry, FinishedEntry
from mlxnode.engine.kvcache.prompt_cache import PromptCache, evaluate
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.engine")

_SUFFIX = ".safetensors"
_UNFINISHED = "unfinished-"
_METADATA = "0."  # mlx-lm's prefix for the names of a caller's metadata


class PrefixStore:
    """The sequences of one model, in ``root/fingerprint``; ``root`` holds ``limit`` bytes.

    The tokens of all files are in memory. Keys and values are read when they are needed.
    """

    def __init__(self, root: Path, fingerprint: str, limit: int):
        self._root, self._folder, self._limit = root, root / fingerprint, limit
        for file in self._folder.glob(_UNFINISHED + "*"):
            file.unlink(missing_ok=True)
        read = map(_read, sorted(self._folder.glob("*" + _SUFFIX)))
        self.entries = [entry for entry in read if entry is not None]

    def load(self, entry: DiskEntry) -> PromptCache | None:
        """The KV cache of all tokens. If the file is lost: None, and the entry is removed."""
        try:
            cache, _ = load_prompt_cache(str(entry.file), return_metadata=True)
            evaluate(cache)
            os.utime(entry.file)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            log.warning("the prefix cache lost %s on disk: %s", entry.file.name, error)
            self._remove(entry.file)
            return None
        return cache

    def save(self, entry: FinishedEntry) -> None:
        """Write a sequence, unless a file holds a longer one that starts with it."""
        common = [(stored, stored.num_common(entry.tokens)) for stored in self.entries]
        if any(
            length == len(entry.tokens)
            and (stored.is_trimmable or length == len(stored.tokens))
            for stored, length in common
        ):
            return
        if entry.nbytes > self._limit:
            return
        name = hashlib.sha256(entry.tokens.tobytes()).hexdigest()[:32]
        file = self._folder / (name + _SUFFIX)
        try:
            self._write(file, entry)
            self.entries.append(
                DiskEntry(
                    entry.tokens,
                    file,
                    is_trimmable=entry.is_trimmable,
                    num_shared=entry.num_shared,
                )
            )
            for stored, length in common:
                if length == len(stored.tokens) and entry.is_trimmable:
                    self._remove(stored.file)  # the new file contains its sequence
            self._trim()
        except (OSError, RuntimeError) as error:
            log.warning("the prefix cache cannot be written to disk: %s", error)

    def _write(self, file: Path, entry: FinishedEntry) -> None:
        # The sequences belong to the users: no other account may read them.
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        metadata = {
            "tokens": json.dumps(entry.tokens.tolist()),
            "is_trimmable": json.dumps(entry.is_trimmable),
            "num_shared": json.dumps(entry.num_shared),
        }
        unfinished = file.with_name(_UNFINISHED + file.name)
        save_prompt_cache(str(unfinished), list(entry.cache), metadata)
        with open(unfinished, "rb") as written:
            os.fsync(written)  # a power loss could leave a file of zeros otherwise
        unfinished.replace(file)

    def _trim(self) -> None:
        """Remove files until the total size is within the limit."""
        files = {file: file.stat() for file in self._root.glob("*/*" + _SUFFIX)}
        total = sum(stat.st_size for stat in files.values())
        for file, stat in sorted(files.items(), key=lambda item: item[1].st_mtime_ns):
            if total <= self._limit:
                return
            self._remove(file)
            total -= stat.st_size

    def _remove(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        self.entries = [entry for entry in self.entries if entry.file != file]


def _read(file: Path) -> DiskEntry | None:
    """The entry of a file. A damaged file is removed, and None returned."""
    try:
        with safe_open(file, "numpy") as opened:  # compares the size with the header
            metadata = opened.metadata()
        tokens, is_trimmable, num_shared = (
            json.loads(metadata[_METADATA + key])
            for key in ("tokens", "is_trimmable", "num_shared")
        )
        return DiskEntry(tokens, file, is_trimmable=is_trimmable, num_shared=num_shared)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        log.warning("the prefix cache drops %s on disk: %s", file.name, error)
        file.unlink(missing_ok=True)
        return None


def fingerprint(model: ServedModel, kv_bits: int | None) -> str:
    """A name for everything that decides on the keys and values of a sequence."""
    is_file = model.weights.is_file()
    files = [model.weights] if is_file else sorted(model.weights.glob("*" + _SUFFIX))
    facts = [
        [__version__, version("mlx"), version("mlx-lm")],
        [str(mx.default_device()), kv_bits],
        (model.folder / "config.json").read_text(),
        [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
