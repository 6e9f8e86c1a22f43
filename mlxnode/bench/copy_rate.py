"""The measured bandwidth of this machine's memory: ``python -m mlxnode.bench.copy_rate``.

A process of its own, which may import mlx. Prints bytes per second.
"""

from mlxnode.engine import cpu

_ON_GPU, _ON_CPU = 512 << 20, 64 << 20  # bytes to copy


def main() -> None:
    cpu.prepare_process()
    from mlxnode.doctor.bandwidth import copy_bandwidth
    from mlxnode.doctor.decoding import is_on_gpu

    print(copy_bandwidth(_ON_GPU if is_on_gpu() else _ON_CPU))


if __name__ == "__main__":
    main()
