"""What the cached prefixes on disk depend on: versions, the model's files, the device.

Each model has a folder, named by a hash of all that. The folder also says in a file from which
versions and files it comes, so that the next start can remove it when those are gone.
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxnode import __version__
from mlxnode.models.adapter import ADAPTER_CONFIG, ADAPTER_FILE
from mlxnode.models.served import ServedModel

log = logging.getLogger("mlxnode.engine")

ORIGIN = "origin.json"  # in the folder of a model


def fingerprint(model: ServedModel, kv_bits: int | None) -> str:
    """A name for everything that decides on the keys and values of a sequence."""
    facts = [
        _versions(),
        [str(mx.default_device()), kv_bits],
        (model.folder / "config.json").read_text(),
        [_facts(file)[1:] for file in _weights(model)],
        [file.name for file in _weights(model)],
        [model.quantize, *(_facts(file)[1:] for file in _adapter(model))],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def origin_of(model: ServedModel) -> dict[str, Any]:
    """What the folder of ``model`` says about itself."""
    files = [*_weights(model), model.folder / "config.json", *_adapter(model)]
    return {"versions": _versions(), "files": list(map(_facts, files))}


def remove_stale(root: Path) -> None:
    """Remove the folders of versions and models that no longer exist."""
    for folder in root.glob("*"):
        with contextlib.suppress(OSError):  # no folder that cannot be read ends the start
            is_ours = folder.is_dir() and not folder.is_symlink()
            is_named = re.fullmatch(r"[0-9a-f]{32}", folder.name)
            if is_ours and is_named and not _is_current(folder):
                log.info("the prefix cache on disk: %s is of no use any more", folder.name)
                shutil.rmtree(folder, ignore_errors=True)


def _is_current(folder: Path) -> bool:
    try:
        origin = json.loads((folder / ORIGIN).read_text())
        return origin["versions"] == _versions() and all(
            _facts(Path(path)) == [path, *facts] for path, *facts in origin["files"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _weights(model: ServedModel) -> list[Path]:
    """The files with the weights."""
    weights = model.weights
    return [weights] if weights.is_file() else sorted(weights.glob("*.safetensors"))


def _adapter(model: ServedModel) -> list[Path]:
    """The files of the adapter."""
    if model.adapter is None:
        return []
    return [model.adapter / ADAPTER_FILE, model.adapter / ADAPTER_CONFIG]


def _facts(file: Path) -> list[str | int]:
    stat = file.stat()
    return [str(file), stat.st_size, stat.st_mtime_ns]


def _versions() -> list[str]:
    return [__version__, version("mlx"), version("mlx-lm")]
