"""How to write the KV cache: the time of a step, and whether MLX copies the cache.

python benchmarks/kv_update.py --lengths 500 16000 --json kv.json
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from mlxnode.engine import cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="Ways to write the KV cache of a batch.")
    parser.add_argument("--lengths", type=int, nargs="+", help="tokens of a row")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--layers", type=int, default=4, help="few layers show the copies")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the measurements there as well")
    args = parser.parse_args()

    cpu.prepare_process()
    from mlxnode.doctor import kv_update  # imports mlx, so not earlier

    size = {"rows": args.rows, "layers": args.layers, "steps": args.steps}
    measurements = []
    print("| write | launch | tokens a row | step, ms | copied, share of the cache |")
    print("|---|---|---|---|---|")
    for length in args.lengths or kv_update.LENGTHS:
        for write in kv_update.WRITES:
            for launch in kv_update.LAUNCHES:
                m = kv_update.measure(write, launch, length=length, **size)
                measurements.append(asdict(m))
                print(f"| {m.write} | {launch} | {length} | {m.step_ms:.2f} | {m.copied:.2f} |")
    if args.json:
        args.json.write_text(json.dumps(measurements, indent=2))


if __name__ == "__main__":
    main()
