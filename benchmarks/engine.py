"""Where a decode step spends its time, without HTTP.

One batch decodes, with parameters of its own for every row. In turn with it, the model runs on
another cache of the same lengths without sampling, and sampling runs without the model.

    python benchmarks/engine.py --batches 1 16 --json engine.json
"""

import argparse
import json
from dataclasses import asdict, astuple, fields
from pathlib import Path

from mlxnode.engine import cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="Where a decode step spends its time.")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--layers", type=int, default=6, help="of the demo model; 0: all")
    parser.add_argument("--json", type=Path, help="write the profiles there as well")
    args = parser.parse_args()

    cpu.prepare_process()
    from decode_profile import Profile, profile_batches  # imports mlx, so not earlier

    profiles = profile_batches(args.batches, args.layers or None)
    names = [field.name for field in fields(Profile)]
    print(f"| {' | '.join(names)} |")
    print("|---" * len(names) + "|")
    for p in profiles:
        print(f"| {p.batch} | {' | '.join(f'{value:.2f}' for value in astuple(p)[1:])} |")
    if args.json:
        args.json.write_text(json.dumps([asdict(p) for p in profiles], indent=2))


if __name__ == "__main__":
    main()
