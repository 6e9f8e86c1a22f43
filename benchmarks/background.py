"""What requests notice of a batch in the background, and the batch of them. Without HTTP.

Streams come and go for some seconds, without the batch and beside it, in turn; then the batch
runs alone. All in one process, with the steps of the engine.

    python benchmarks/background.py --streams 2 --seconds 60 --json build/background.json
    python benchmarks/background.py --pause 0  # streams at all times: the trickle
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from mlxnode.engine import cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="Streams beside a batch in the background.")
    parser.add_argument("--layers", type=int, default=6, help="of the demo model; 0: all")
    parser.add_argument("--streams", type=int, default=2, help="that run at the same time")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two answers")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the rounds")
    parser.add_argument("--rounds", type=int, default=2, help="with and without, each")
    parser.add_argument("--json", type=Path, help="write the result there as well")
    args = parser.parse_args()

    cpu.prepare_process()
    from background_load import measure  # imports mlx, so not earlier

    result = asdict(
        measure(args.layers or None, args.streams, args.pause, args.seconds, args.rounds)
    )
    for name, value in result.items():
        print(f"{name:28}{value:10.2f}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
