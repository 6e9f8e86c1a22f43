"""Write every variant of the project's kernels as a file that the Metal compiler takes.

    python tests/metal/write_sources.py FOLDER

MLX's headers, which it puts before each kernel, are those of the installed wheel: compile with
``-I`` and what this prints.
"""

import itertools
import sys
from pathlib import Path

import mlx
import mlx.core as mx

sys.path.insert(0, str(Path(__file__).parents[1]))

from metal.emulator import EmulatedKernel, Run

PRELUDE = '#include "mlx/backend/metal/kernels/utils.h"\n'
DTYPES = (mx.float32, mx.float16, mx.bfloat16)


def sampling_runs() -> list[Run]:
    from support.sampling_reference import RowCase, batch_of

    from mlxnode.kernels import sample_metal

    logits = [float(i % 7) for i in range(64)]
    for dtype, bias, tops in itertools.product(DTYPES, ({}, {3: 1.0}), (0, 20)):
        batch = batch_of([RowCase(mx.array(logits), bias=bias)], dtype)
        batch.sample(sample_metal.sample_metal, tops)
    return sample_metal.kernel().runs


def pooling_runs() -> list[Run]:
    from mlxnode.kernels import pool_metal
    from mlxnode.kernels.pool import PoolingColumns

    columns = PoolingColumns.of([4], ["mean"], [32])
    for dtype, normalize in itertools.product(DTYPES, (True, False)):
        pool_metal.pool_metal(mx.ones((1, 4, 32), dtype), columns, normalize=normalize)
    return pool_metal.kernel().runs


def main(folder: Path) -> None:
    mx.fast.metal_kernel = EmulatedKernel
    folder.mkdir(parents=True, exist_ok=True)
    for kind, runs in (("sample", sampling_runs()), ("pool", pooling_runs())):
        for number, run in enumerate(runs):
            (folder / f"{kind}_{number}.metal").write_text(PRELUDE + run.source)
    print(Path(next(iter(mlx.__path__))) / "include")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
