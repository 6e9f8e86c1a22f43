"""Custom Metal kernels of MLX, with their types."""

from collections.abc import Sequence
from typing import Protocol, cast

import mlx.core as mx


class MetalKernel(Protocol):
    """A kernel that ``mx.fast.metal_kernel`` made. MLX compiles each variant at its first call.

    ``template`` sets the constants of the source; ``grid`` counts threads.
    """

    def __call__(
        self,
        *,
        inputs: list[mx.array],
        template: list[tuple[str, mx.Dtype | int | bool]],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        output_shapes: list[tuple[int, ...]],
        output_dtypes: list[mx.Dtype],
    ) -> list[mx.array]: ...


def make_kernel(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    constants: dict[str, int],
    header: str,
    body: str,
) -> MetalKernel:
    """Make a kernel from the body of its function.

    MLX writes the function's signature from the names of ``inputs`` and ``outputs``.
    ``constants`` are defined before ``header``, which holds the functions of the kernel.
    """
    definitions = [
        f"constant constexpr uint {constant} = {value};\n"
        for constant, value in constants.items()
    ]
    kernel = mx.fast.metal_kernel(
        name=name,
        input_names=inputs,
        output_names=outputs,
        header="".join([*definitions, header]),
        source=body,
    )
    return cast(MetalKernel, kernel)  # MLX's stub says that the kernel is an ``object``
