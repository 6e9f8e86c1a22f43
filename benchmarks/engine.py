"""Where a decode step spends its time, without HTTP.

One batch decodes, with parameters of its own for every row. In turn with it, the model runs on
another cache of the same lengths without sampling, and sampling runs without the model.

Then a model of many narrow layers decodes beside mlx_lm's BatchGenerator.

    python benchmarks/engine.py --batches 1 16 --json engine.json
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

from mlxnode.engine import cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="Where a decode step spends its time.")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--peer", type=int, nargs="*", default=[1, 8, 32], metavar="BATCH")
    parser.add_argument("--layers", type=int, default=6, help="of the demo model; 0: all")
    parser.add_argument("--json", type=Path, help="write the profiles there as well")
    args = parser.parse_args()

    cpu.prepare_process()
    from decode_peer import compare  # imports mlx, so not earlier
    from decode_profile import profile_batches

    # First: on the CPU, the other profiles replace functions that mlx_lm calls as well.
    comparisons = compare(args.peer)
    profiles = profile_batches(args.batches, args.layers or None) if args.batches else []
    for rows in (profiles, comparisons):
        _print_table(rows)
    if args.json:
        results = {"profiles": profiles, "beside_mlx_lm": comparisons}
        args.json.write_text(json.dumps(results, default=asdict, indent=2))


def _print_table(rows: Sequence[Any]) -> None:
    if not rows:
        return
    names = [field.name for field in fields(rows[0])]
    print(f"| {' | '.join(names)} |")
    print("|---" * len(names) + "|")
    for row in rows:
        print(f"| {' | '.join(map(_cell, astuple(row)))} |")


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
