"""The weights that several ids have in common, in memory once."""

from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from mlxnode.models.files import ModelFiles
from mlxnode.models.served import ServedModel

_CONFIG = "config.json"


@dataclass(frozen=True, eq=False)
class _Base:
    """The arrays of a model without its adapter, by name."""

    arrays: dict[str, mx.array] = field(repr=False)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


class BaseWeights:
    """The weights of all loaded models, by the files that they come from.

    Each model that uses a base holds it, and the registry does not: ids are loaded and unloaded
    in any order, and the memory is free when the last of them is gone. Files that have changed
    are another base.
    """

    def __init__(self) -> None:
        self._bases: WeakValueDictionary[tuple, _Base] = WeakValueDictionary()

    def share(self, served: ServedModel, model: nn.Module) -> None:
        """Give ``model``, which has no adapter yet, the arrays of its base.

        The first model of a base brings them.
        """
        base = self._bases.get(key := _key(served))
        if base is None:
            # Private arrays are in it, too: a GGUF file tells the frequencies of positions.
            arrays = [
                (str(name), array)
                for name, array in tree_flatten(model)
                if isinstance(array, mx.array)
            ]
            base = self._bases[key] = _Base(dict(arrays))
        else:
            model.update(tree_unflatten(list(base.arrays.items())))
        model.base_weights = base

    def loaded_bytes(self, served: ServedModel) -> int:
        """The bytes of the base of ``served``; 0 if no loaded model has it."""
        base = self._bases.get(_key(served))
        return 0 if base is None else base.nbytes


def _key(served: ServedModel) -> tuple:
    files = [*ModelFiles(served.folder, served.weights).weight_files, served.folder / _CONFIG]
    return (served.quantize, *(_facts(file) for file in files))


def _facts(file: Path) -> tuple[str, int, int]:
    stat = file.stat()
    return str(file.resolve()), stat.st_size, stat.st_mtime_ns
