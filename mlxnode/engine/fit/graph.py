"""The graph of operations that a function would compute, with the shape of each array."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten


@dataclass(frozen=True)
class Operation:
    """One operation: the names of its inputs and outputs, and what MLX calls it."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: tuple[int, ...] = ()  # of a transposition


@dataclass
class Graph:
    """Operations in the order of their evaluation; ``sizes`` has the bytes of each array."""

    operations: list[Operation] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def trace(function: Callable[..., Sequence[mx.array]], arrays: Sequence[mx.array]) -> Graph:
    """The graph of ``function(*arrays)``. Nothing is evaluated, neither the arrays.

    Raises:
        ValueError: the function needs the value of an array.
    """
    graph = Graph()

    def names(entries: Sequence[tuple[str, Sequence[int], mx.Dtype]]) -> tuple[str, ...]:
        for name, shape, dtype in entries:
            graph.sizes[name] = nbytes(shape, dtype)
            graph.shapes[name] = tuple(shape)
        return tuple(name for name, *_ in entries)

    def record(entry: dict[str, Any]) -> None:
        match entry["type"]:
            case "inputs":
                graph.inputs += names(entry["inputs"])
            case "outputs":
                graph.outputs += names(entry["outputs"])
            case "primitive":
                is_transposition = entry["name"] == "Transpose"
                graph.operations.append(
                    Operation(
                        entry["name"],
                        names(entry["inputs"]),
                        names(entry["outputs"]),
                        tuple(entry["arguments"][0]) if is_transposition else (),
                    )
                )

    mx.export_function(record, function, *arrays)
    return graph


def named_arrays(parameters: dict[str, Any]) -> list[tuple[str, mx.array]]:
    """The weights of a model, with their names."""
    return [
        (str(name), array)
        for name, array in tree_flatten(parameters)
        if isinstance(array, mx.array)
    ]


def nbytes(shape: Sequence[int], dtype: mx.Dtype) -> int:
    """The bytes of an array."""
    return dtype.size * math.prod(shape)
