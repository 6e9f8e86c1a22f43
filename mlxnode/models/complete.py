"""Whether the files of weights are whole: a download may have ended early.

MLX reads weights when they are first used. The end of a file that is too short would then end
the whole engine.
"""

from pathlib import Path, PurePath

from mlxnode.errors import ModelError
from mlxnode.models.files import ModelFiles
from mlxnode.models.gguf.folder import read_tensors
from mlxnode.models.plain_files import read_object
from mlxnode.models.safetensors import check_safetensors, check_size

_INDEX = "model.safetensors.index.json"


def check_complete(files: ModelFiles) -> int:
    """Compare each file with its header, and the folder with its index.

    Returns the number of tensors.

    Raises:
        ModelError: a file is missing, too short, or no file of its format.
    """
    if files.weights.is_file():
        tensors = read_tensors(files.folder)
        check_size(files.weights, max(tensor.end for tensor in tensors))
        return len(tensors)
    num_tensors = sum(map(check_safetensors, files.weight_files))
    if (files.weights / _INDEX).exists():
        _check_index(files.weights)
    return num_tensors


def _check_index(folder: Path) -> None:
    index = folder / _INDEX
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"{index}: weight_map must be an object")
    names = set()
    for name in shards.values():
        if not isinstance(name, str) or PurePath(name).name != name:
            raise ModelError(f"{index}: {name!r:.80} is no name of a file in this folder")
        names.add(name)
    missing = sorted(name for name in names if not (folder / name).exists())
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(names)} files of weights are missing, "
            f"such as {missing[0]}"
        )
