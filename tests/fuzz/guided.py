"""Fuzzing of one target, guided by coverage: atheris (libFuzzer). 0 if it finds nothing.

Usage: python -m fuzz.guided TARGET [--seconds 600]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris
from fuzz.targets import TARGETS, import_modules

SLOW = 10  # seconds for one input: a finding
MAX_SIZE = 8192  # bytes of an input
FINDINGS = Path(__file__).parents[2] / "build" / "findings"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    options = parser.parse_args()
    target = TARGETS[options.target]
    with atheris.instrument_imports():
        import_modules(target)
    run = target.make()
    FINDINGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds()):
            (Path(folder) / str(number)).write_bytes(seed)
        arguments = [
            sys.argv[0],
            folder,
            f"-max_total_time={options.seconds}",
            f"-max_len={MAX_SIZE}",
            f"-timeout={SLOW}",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            f"-artifact_prefix={FINDINGS}/",
            "-verbosity=0",
        ]
        atheris.Setup(arguments, run)
        atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
