"""The source and arguments that MLX would pass to Metal for one call of a custom kernel."""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx


class CaptureError(ValueError):
    """The callable does not call one custom kernel on its own arguments."""


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel: the full source that MLX generated, and its arguments.

    ``grid`` counts threads, not threadgroups. MLX's record has no ``init_value``.
    """

    name: str
    source: str
    grid: tuple[int, int, int]
    threadgroup: tuple[int, int, int]
    inputs: list[mx.array]
    output_shapes: list[tuple[int, ...]]
    output_dtypes: list[mx.Dtype]


def capture(function: Callable, *arrays: mx.array) -> Launch:
    """Trace ``function(*arrays)``, which calls an object of ``mx.fast.metal_kernel`` once.

    The kernel's inputs must be arguments of the function or constants: nothing is evaluated.

    Raises:
        CaptureError: no kernel or several, or an input that the function computes
    """
    records: dict[str, list[dict]] = {}
    mx.export_function(
        lambda record: records.setdefault(record["type"], []).append(record), function, *arrays
    )
    primitives = records.get("primitive", [])
    kernels = [record for record in primitives if record["name"] == "CustomKernel"]
    if len(kernels) != 1:
        raise CaptureError(f"the function calls {len(kernels)} custom kernels, not one")
    kernel = kernels[0]

    values = {
        key: value for record in records["constants"] for key, value in record["constants"]
    }
    traced = [key for record in records["inputs"] for key, *_ in record["inputs"]]
    values.update(zip(traced, arrays, strict=True))
    makers = {key: p["name"] for p in primitives for key, *_ in p["outputs"]}
    for number, (key, *_) in enumerate(kernel["inputs"]):
        if key not in values:
            raise CaptureError(
                f"input {number} of the kernel is computed by {makers.get(key, 'something')} "
                "in the function: pass it as an argument"
            )

    name, source, *sizes = kernel["arguments"][:8]
    return Launch(
        name=name,
        source=source,
        grid=tuple(sizes[:3]),
        threadgroup=tuple(sizes[3:]),
        inputs=[values[key] for key, *_ in kernel["inputs"]],
        output_shapes=[tuple(shape) for _, shape, _ in kernel["outputs"]],
        output_dtypes=[dtype for *_, dtype in kernel["outputs"]],
    )
