"""Write every variant of the project's kernels as a file that the Metal compiler takes.

    python tests/metal/write_sources.py FOLDER

MLX's headers, which it puts before each kernel, are those of the installed wheel: compile with
``-I`` and what this prints.
"""

import itertools
import sys
from pathlib import Path

import mlx.core as mx

sys.path.insert(0, str(Path(__file__).parents[1]))

from metal.capture import capture

PRELUDE = '#include "mlx/backend/metal/kernels/utils.h"\n'
DTYPES = (mx.float32, mx.float16, mx.bfloat16)
_metal_kernel = mx.fast.metal_kernel


class SourceKernel:
    """A stand-in for ``mx.fast.metal_kernel`` that keeps the sources and runs nothing."""

    def __init__(self, *arguments, **keywords):
        self.kernel = _metal_kernel(*arguments, **keywords)
        self.sources: list[str] = []

    def __call__(self, *, inputs, output_shapes, output_dtypes, **call) -> list[mx.array]:
        arrays = [mx.array(x) for x in inputs]
        outputs = {"output_shapes": output_shapes, "output_dtypes": output_dtypes}
        launch = capture(
            lambda *traced: self.kernel(inputs=list(traced), **outputs, **call), *arrays
        )
        self.sources.append(launch.source)
        return [mx.zeros(*each) for each in zip(output_shapes, output_dtypes, strict=True)]


def sampling_sources() -> list[str]:
    from support.sampling_reference import RowCase, batch_of

    from mlxnode.kernels import sample_metal

    logits = [float(i % 7) for i in range(64)]
    for dtype, bias, tops in itertools.product(DTYPES, ({}, {3: 1.0}), (0, 20)):
        batch = batch_of([RowCase(mx.array(logits), bias=bias)], dtype)
        batch.sample(sample_metal.sample_metal, tops)
    return sample_metal.kernel().sources


def pooling_sources() -> list[str]:
    from mlxnode.kernels import pool_metal
    from mlxnode.kernels.pool import PoolingColumns

    columns = PoolingColumns.of([4], ["mean"], [32])
    for dtype, normalize in itertools.product(DTYPES, (True, False)):
        pool_metal.pool_metal(mx.ones((1, 4, 32), dtype), columns, normalize=normalize)
    return pool_metal.kernel().sources


def sources() -> dict[str, list[str]]:
    """What MLX generates for each variant of each kernel."""
    from mlxnode.kernels import pool_metal, sample_metal

    modules = (sample_metal, pool_metal)
    mx.fast.metal_kernel = SourceKernel
    for module in modules:
        module.kernel.cache_clear()
    try:
        return {"sample": sampling_sources(), "pool": pooling_sources()}
    finally:
        mx.fast.metal_kernel = _metal_kernel
        for module in modules:
            module.kernel.cache_clear()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, texts in sources().items():
        for number, text in enumerate(texts):
            (folder / f"{kind}_{number}.metal").write_text(PRELUDE + text)
    print(Path(mx.__file__).parent / "include")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
