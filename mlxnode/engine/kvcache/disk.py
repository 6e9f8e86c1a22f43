"""The prefix cache on disk, so that it outlives the process.

A file holds one text: its caches in mlx-lm's format of prompt caches, with the tokens among
the metadata. The folder that it lies in is named after all that the caches depend on: another
version of the model or of this program does not find them. Where room is needed, the files
that were not used for the longest time go, those of other models and versions included.
"""

import hashlib
import json
import logging
import os
from pathlib import Path

import mlx.core as mx
import mlx_lm
from mlx_lm.models.cache import load_prompt_cache, save_prompt_cache
from safetensors import SafetensorError, safe_open

from mlxnode import __version__
from mlxnode.engine.kvcache.batch import Row
from mlxnode.engine.kvcache.entries import Entry, StoredText
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.engine")

_SUFFIX = ".safetensors"
_UNFINISHED = "unfinished-"
_METADATA = "0."  # what mlx-lm puts before the names of a caller's metadata


class PrefixStore:
    """The texts of one model, in ``root/fingerprint``; all ``root`` is within ``limit`` bytes.

    What is told of a text on disk is in memory; its keys and values are read when needed.
    """

    def __init__(self, root: Path, fingerprint: str, limit: int):
        self._root, self._folder, self._limit = root, root / fingerprint, limit
        for file in self._folder.glob(_UNFINISHED + "*"):
            file.unlink(missing_ok=True)
        read = map(_read, sorted(self._folder.glob("*" + _SUFFIX)))
        self.texts = [text for text in read if text is not None]

    def load(self, text: StoredText) -> Row | None:
        """The caches of all tokens of a text; None if they are gone, and so is the text."""
        try:
            row = load_prompt_cache(str(text.file))
            mx.eval([layer.state for layer in row])
            os.utime(text.file)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            log.warning("the prefix cache lost %s on disk: %s", text.file.name, error)
            self._remove(text.file)
            return None
        return row

    def save(self, entry: Entry) -> None:
        """Keep a text, unless a longer one that begins with it is kept already."""
        common = [(text, text.num_common(entry.tokens)) for text in self.texts]
        if any(
            length == len(entry.tokens) and (text.can_be_cut or length == len(text.tokens))
            for text, length in common
        ):
            return
        if entry.nbytes > self._limit:
            return
        name = hashlib.sha256(entry.tokens.tobytes()).hexdigest()[:32]
        file = self._folder / (name + _SUFFIX)
        try:
            self._write(file, entry)
            self.texts.append(
                StoredText(
                    entry.tokens,
                    file,
                    can_be_cut=entry.can_be_cut,
                    num_shared=entry.num_shared,
                )
            )
            for text, length in common:
                if length == len(text.tokens) and entry.can_be_cut:
                    self._remove(text.file)  # the beginning of the new one
            self._trim()
        except (OSError, RuntimeError) as error:
            log.warning("the prefix cache cannot be written to disk: %s", error)

    def _write(self, file: Path, entry: Entry) -> None:
        # Texts are their users' own: nobody else may read them.
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        metadata = {
            "tokens": json.dumps(entry.tokens.tolist()),
            "can_be_cut": json.dumps(entry.can_be_cut),
            "num_shared": json.dumps(entry.num_shared),
        }
        unfinished = file.with_name(_UNFINISHED + file.name)
        save_prompt_cache(str(unfinished), entry.row, metadata)
        with open(unfinished, "rb") as written:
            os.fsync(written)  # or a loss of power may leave a whole file of nothing
        unfinished.replace(file)

    def _trim(self) -> None:
        """Remove files until the rest is within the limit."""
        files = {file: file.stat() for file in self._root.glob("*/*" + _SUFFIX)}
        total = sum(stat.st_size for stat in files.values())
        for file, stat in sorted(files.items(), key=lambda item: item[1].st_mtime_ns):
            if total <= self._limit:
                return
            self._remove(file)
            total -= stat.st_size

    def _remove(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        self.texts = [text for text in self.texts if text.file != file]


def _read(file: Path) -> StoredText | None:
    """What a file holds; None, and no file any more, if it is not whole."""
    try:
        with safe_open(file, "numpy") as opened:  # compares the file's size with the header
            metadata = opened.metadata()
        tokens, can_be_cut, num_shared = (
            json.loads(metadata[_METADATA + key])
            for key in ("tokens", "can_be_cut", "num_shared")
        )
        return StoredText(tokens, file, can_be_cut=can_be_cut, num_shared=num_shared)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        log.warning("the prefix cache drops %s on disk: %s", file.name, error)
        file.unlink(missing_ok=True)
        return None


def fingerprint(model: ServedModel, kv_bits: int | None) -> str:
    """A name for all that decides on the keys and values of a text."""
    is_file = model.weights.is_file()
    files = [model.weights] if is_file else sorted(model.weights.glob("*" + _SUFFIX))
    facts = [
        [__version__, mx.__version__, mlx_lm.__version__],
        [str(mx.default_device()), kv_bits],
        (model.folder / "config.json").read_text(),
        [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
