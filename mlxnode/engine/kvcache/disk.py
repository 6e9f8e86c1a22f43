"""The prefix cache on disk: prefixes survive a restart of the process.

A file holds one sequence: its KV cache and its snapshots in mlx-lm's format of prompt caches,
its tokens in the metadata. The folder depends on everything that the KV cache depends on
(``origin.py``). A file gets its name when it is complete, so a process can be killed at any
moment. When the limit is reached, the least recently used files are removed, also those of
other models.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_lm.models.cache import load_prompt_cache, save_prompt_cache
from safetensors import SafetensorError, safe_open

from mlxnode.engine.kvcache.disk_layout import pack, spans_of, unpack
from mlxnode.engine.kvcache.entries import DiskEntry, FinishedEntry
from mlxnode.engine.kvcache.origin import ORIGIN
from mlxnode.engine.kvcache.prompt_cache import PromptCache, evaluate
from mlxnode.engine.kvcache.snapshot import Snapshot, Span

log = logging.getLogger("mlxnode.engine")

_SUFFIX = ".safetensors"
_UNFINISHED = "unfinished-"
_METADATA = "0."  # mlx-lm's prefix for the names of a caller's metadata
# What a file that is damaged, or none of ours, can raise.
_DAMAGED = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError),
    SafetensorError,
)


class PrefixStore:
    """The sequences of one model, in ``root/fingerprint``; ``root`` holds ``limit`` bytes.

    The tokens of all files are in memory. Keys and values are read when they are needed.
    ``origin`` is what the folder says about itself.
    """

    def __init__(
        self, root: Path, fingerprint: str, limit: int, origin: Mapping[str, Any] | None = None
    ):
        self._root, self._folder, self._limit = root, root / fingerprint, limit
        self._origin = origin or {}
        for file in self._folder.glob(_UNFINISHED + "*"):
            _unlink(file)
        read = map(_read, sorted(self._folder.glob("*" + _SUFFIX)))
        self.entries = [entry for entry in read if entry is not None]

    def load(self, entry: DiskEntry) -> tuple[PromptCache, list[Snapshot]] | None:
        """The cache of all tokens, as ``FinishedEntry`` has it, and its snapshots.

        If the file is lost: None, and the entry is removed.
        """
        try:
            layers, metadata = load_prompt_cache(str(entry.file), return_metadata=True)
            evaluate(layers)
            loaded = unpack(layers, json.loads(metadata["layout"]))
            os.utime(entry.file)
        except _DAMAGED as error:
            log.warning("the prefix cache lost %s on disk: %s", entry.file.name, error)
            self._remove(entry.file)
            return None
        return loaded

    def save(self, entry: FinishedEntry) -> None:
        """Write a sequence, unless a file holds a longer one that starts with it."""
        common = [(stored, stored.num_common(entry.tokens)) for stored in self.entries]
        if any(
            length == len(entry.tokens) and stored.usable(length) >= entry.usable(length)
            for stored, length in common
        ):
            return
        snapshot_size = sum(snapshot.nbytes for snapshot in entry.snapshots)
        if entry.nbytes + snapshot_size > self._limit:
            return
        name = hashlib.sha256(entry.tokens.tobytes()).hexdigest()[:32]
        file = self._folder / (name + _SUFFIX)
        try:
            self._write(file, entry)
            self.entries = [stored for stored in self.entries if stored.file != file]
            self.entries.append(
                DiskEntry(
                    entry.tokens,
                    file,
                    is_trimmable=entry.is_trimmable,
                    num_shared=entry.num_shared,
                    spans=[Span(s.length, s.shortest) for s in entry.snapshots],
                    snapshot_bytes=snapshot_size,
                )
            )
            for stored, length in common:
                if length == len(stored.tokens) and stored.file != file:
                    self._remove(stored.file)  # the new file contains its sequence
            self._trim()
        except (OSError, RuntimeError) as error:
            log.warning("the prefix cache cannot be written to disk: %s", error)

    def _write(self, file: Path, entry: FinishedEntry) -> None:
        # The sequences belong to the users: no other account may read them.
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if not (self._folder / ORIGIN).exists():
            unfinished = self._folder / (_UNFINISHED + ORIGIN)
            unfinished.write_text(json.dumps(self._origin))
            unfinished.replace(self._folder / ORIGIN)
        layers, layout = pack(entry)
        metadata = {
            "tokens": json.dumps(entry.tokens.tolist()),
            "is_trimmable": json.dumps(entry.is_trimmable),
            "num_shared": json.dumps(entry.num_shared),
            "layout": json.dumps(layout),
        }
        unfinished = file.with_name(_UNFINISHED + file.name)
        save_prompt_cache(str(unfinished), layers, metadata)
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
        _unlink(file)
        self.entries = [entry for entry in self.entries if entry.file != file]


def _read(file: Path) -> DiskEntry | None:
    """The entry of a file. A damaged file is removed, and None returned."""
    try:
        with safe_open(file, "numpy") as opened:  # compares the size with the header
            metadata = opened.metadata()
        tokens, is_trimmable, num_shared, layout = (
            json.loads(metadata[_METADATA + key])
            for key in ("tokens", "is_trimmable", "num_shared", "layout")
        )
        spans, snapshot_bytes = spans_of(layout)
        return DiskEntry(
            tokens,
            file,
            is_trimmable=is_trimmable,
            num_shared=num_shared,
            spans=spans,
            snapshot_bytes=snapshot_bytes,
        )
    except _DAMAGED as error:
        log.warning("the prefix cache drops %s on disk: %s", file.name, error)
        _unlink(file)
        return None


def _unlink(file: Path) -> None:
    with contextlib.suppress(OSError):  # a folder, say
        file.unlink(missing_ok=True)
