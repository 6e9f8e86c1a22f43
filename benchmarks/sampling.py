"""Sampling: the Metal kernel, its twin in operations and mlx-lm's samplers, side by side.

Every row has parameters of its own, so mlx-lm's samplers run row by row, as in its server. The
three take turns, round after round; only ratios within one run mean anything. Passes are bytes
moved in multiples of the logits' size: of the operations, as their graph says (inputs and
outputs of every operation that is not a view); of the kernel, as the emulator counts them.

    python benchmarks/sampling.py --batches 1 4 16 --json kernels.json --plot kernels.svg
"""

import argparse
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from sampling_report import plot, table

from mlxnode.engine import cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="Sampling, three times side by side.")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument(
        "--vocabularies", type=int, nargs="+", default=[32_000, 49_152, 151_936]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--plot", type=Path, help="draw them here (.svg, .png)")
    options = parser.parse_args()

    cpu.prepare_process()
    import mlx.core as mx  # not before the process is prepared
    from sampling_cases import measure

    results = [
        result
        for vocabulary in options.vocabularies
        for batch in options.batches
        for result in measure(batch, vocabulary, options.rounds)
    ]
    print(f"mlx {version('mlx')}, {platform.machine()}, {mx.default_device()}")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
